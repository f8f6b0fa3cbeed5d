"""Access lists: which users are let in, by address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from relay.config.client_address import ClientAddress, IPAddress
from relay.config.port_options import AccessList
from relay.errors import InvalidValue

_REMEDY = "write an address or a network, as in 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"


def normal_network(text: str) -> str:
    """Return the normal form of a network: ``192.0.2.0/24``, ``2001:db8::/32``; a single address has /32 or /128.

    Raises:
        InvalidValue: the text is no network, or has bits set behind its prefix.
    """
    value = text.strip()
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        try:
            meant = ipaddress.ip_interface(value).network
        except ValueError:
            raise InvalidValue("network", text, "is neither an address nor a network", _REMEDY) from None
        raise InvalidValue("network", text, "has bits set behind its prefix", f"write {meant}") from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id:
            raise InvalidValue("network", text, "has a zone", "leave out what follows the %")
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            # Users' addresses of this form are looked up as the IPv4 addresses that they stand for.
            return f"{mapped}/{network.prefixlen - 96}"
    return str(network)


class Networks:
    """A set of networks that answers in as many steps as it has prefix lengths, however many there are."""

    def __init__(self, texts: Iterable[str]) -> None:
        by_prefix: dict[tuple[int, int], set[int]] = {}
        for text in texts:
            network = ipaddress.ip_network(text)
            host_bits = network.max_prefixlen - network.prefixlen
            by_prefix.setdefault((network.version, host_bits), set()).add(int(network.network_address) >> host_bits)
        self._by_prefix = {
            version: [(host_bits, found) for (of, host_bits), found in by_prefix.items() if of == version]
            for version in (4, 6)
        }

    def __contains__(self, ip: IPAddress) -> bool:
        number = int(ip)
        return any(number >> host_bits in networks for host_bits, networks in self._by_prefix[ip.version])


class Access:
    """An `AccessList`, ready to be asked."""

    def __init__(self, rules: AccessList) -> None:
        self.rules = rules
        self._allow, self._deny = Networks(rules.allow), Networks(rules.deny)

    def admits(self, client: ClientAddress | None) -> bool:
        """Say whether a user is let in: no deny entry holds the address, and an allow entry does where there are any.

        A user whose address the node did not say is let in only where everybody is who is not denied.
        """
        if client is None:
            return not self.rules.allow
        return client.ip not in self._deny and (not self.rules.allow or client.ip in self._allow)
