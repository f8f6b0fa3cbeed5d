"""Target policies: into which networks, to which ports and sockets a backend's streams may be carried.

A policy judges IP addresses, never names: the dialer asks it about the addresses that a name resolved to, and dials
exactly those that it permits (`relay.targets.dialing`). What can be said without a resolver, `target_refusal` says.

Sources: the special-purpose address registries of IANA (RFC 6890); RFC 6052 and 8215 (NAT64), 3056 (6to4), 4380
(Teredo), 5214 (ISATAP), 4291 and 2765 (IPv4 in IPv6); the clouds' own pages for their metadata services.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from relay.config.access import Networks, normal_network
from relay.config.client_address import IPAddress
from relay.config.targets import Target
from relay.errors import InvalidValue, shorten

USUAL: Final = "usual"
"""Stands, among a policy's networks, for all addresses but the `SPECIAL` ones."""

EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
"""Networks that hold every address, the special ones too."""

_OWN: Final = "the relay's own machine"
_LOCAL: Final = "a link-local address"
_METADATA: Final = "a cloud's metadata service"
_MANY: Final = "a multicast or broadcast address"

SPECIAL: Final = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("127.0.0.0/8", _OWN),
        ("0.0.0.0/8", _OWN),  # Linux connects to itself for 0.0.0.0; the others are nobody's
        ("169.254.0.0/16", _LOCAL),  # most clouds' metadata services too
        ("224.0.0.0/4", _MANY),
        ("255.255.255.255/32", _MANY),
        ("100.100.100.200/32", _METADATA),  # Alibaba Cloud
        ("168.63.129.16/32", _METADATA),  # Azure
        ("192.0.0.192/32", _METADATA),  # Oracle Cloud Classic
        ("::1/128", _OWN),
        ("::/128", _OWN),
        ("fe80::/10", _LOCAL),
        ("ff00::/8", _MANY),
        ("fd00:ec2::/32", _METADATA),  # AWS, with its resolver and credentials for pods
        ("fd20:ce::254/128", _METADATA),  # Google Cloud
        ("fd00:c1::a9fe:a9fe/128", _METADATA),  # Oracle Cloud
        ("fd00:42::42/128", _METADATA),  # Scaleway
        ("fd00:a9fe:a9fe::1/128", _METADATA),  # Akamai
        ("fd00:100::100:200/128", _METADATA),  # Alibaba Cloud
        ("64:ff9b:1::/48", "a NAT64 gateway's local prefix"),  # where the IPv4 address is in it, only the gateway knows
    )
)
"""Networks that targets may be in only where a policy lists them."""

_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?", re.ASCII)
_PORT_REMEDY = "write ports and ranges of them, as in 443 or 8000-8999"
_IPV4_PART = re.compile(r"0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """Where a backend's streams may be carried.

    Attributes:
        networks: in normal form (`normal_target_network`), perhaps with the word `USUAL`; empty for `USUAL` alone. An
            address that one of them holds is permitted, special or not; no other is.
        ports: first and last of each range; empty for all.
        unix: Unix sockets too.
        whose: "tenant" or "site", for messages.
    """

    networks: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    unix: bool = False
    whose: str = "tenant"
    _listed: Networks = field(init=False, repr=False, compare=False)
    _usual: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_listed", Networks(normal_network(text) for text in self.networks if text != USUAL))
        object.__setattr__(self, "_usual", not self.networks or USUAL in self.networks)

    @property
    def is_open(self) -> bool:
        """It refuses nothing."""
        return self.unix and not self.ports and set(EVERYWHERE) <= set(self.networks)

    def permits(self, address: str, port: int) -> bool:
        """Say whether an IP address may be dialled at a port."""
        return not self.refusal(address, port)

    def refusal(self, address: str, port: int) -> str:
        """Return why an IP address may not be dialled at a port, and what would help; empty where it may."""
        return self._network_refusal(address) or self.port_refusal(port)

    def port_refusal(self, port: int) -> str:
        """Return why nothing may be dialled at a port; empty where something may."""
        if not self.ports or in_port_ranges(port, self.ports):
            return ""
        return self._words(f"port {port} is not among {port_ranges_text(self.ports)}", f"port {port}")

    def unix_refusal(self) -> str:
        """Return why no Unix socket may be dialled; empty where they may."""
        return "" if self.unix else self._words(f"a Unix socket is on {_OWN}", "Unix sockets")

    def _network_refusal(self, address: str) -> str:
        try:
            ip = _address(address)
        except ValueError:
            return f"{shorten(address)!r} is no IP address that could be checked: choose another target"
        what = _special(ip)
        if ip not in self._listed and (what or not self._usual):
            problem = f"{ip} is {what}" if what else f"{ip} is in none of its networks"
            return self._words(problem, str(ip))
        for inner in _embedded(ip):
            what = _special(inner)
            if what and inner not in self._listed:
                return self._words(f"{ip} leads to {inner}, and that is {what}", str(inner))
        return ""

    def _words(self, problem: str, what: str) -> str:
        return (
            f"{problem}, which the {self.whose}'s policy for targets does not allow: choose another target, or have an "
            f"operator allow the {self.whose} {what}"
        )


OPEN: Final = TargetPolicy(EVERYWHERE, unix=True)
"""Refuses nothing."""


def target_refusal(target: Target, policies: Iterable[TargetPolicy]) -> str:
    """Return why a target is refused whatever a resolver says; empty where it is not, or is not known to be yet.

    Names are left to the moment of dialling, but for ``localhost`` and what resolvers read as an IPv4 address.
    """
    for policy in policies:
        if target.kind == "unix":
            found = policy.unix_refusal()
        else:
            # As in a dial: of several addresses one that is permitted is enough.
            refusals = [policy.refusal(address, target.port) for address in addresses_of(target.host)]
            found = refusals[0] if refusals and all(refusals) else policy.port_refusal(target.port)
        if found:
            return found
    return ""


def addresses_of(host: str) -> tuple[str, ...]:
    """Return the IP addresses of a host that is one, in any spelling, or ``localhost``; empty for other names."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return ("127.0.0.1", "::1")
    try:
        _address(host)
    except ValueError:
        spelled = _spelled_ipv4(name)
        return () if spelled is None else (spelled,)
    return (host,)


def _spelled_ipv4(name: str) -> str | None:
    """Return the address that getaddrinfo takes ``127.1``, ``0x7f.1`` or ``2130706433`` for, as inet_aton(3) does."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_IPV4_PART.fullmatch(part) for part in parts):
        return None
    *leading, last = (_number(part) for part in parts)
    if any(number > 255 for number in leading) or last >= 256 ** (5 - len(parts)):
        return None
    for place, number in enumerate(leading):
        last |= number << 8 * (3 - place)
    return str(ipaddress.IPv4Address(last))


def _number(text: str) -> int:
    if text.lower().startswith("0x"):
        return int(text, 16)
    return int(text, 8 if text.startswith("0") else 10)


# -- addresses


@lru_cache(maxsize=4096)
def _address(text: str) -> IPAddress:
    """Return the address that a dial of this one reaches: without its zone, and IPv4 where it is mapped."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if mapped is None else mapped


@lru_cache(maxsize=4096)
def _special(ip: IPAddress) -> str:
    return next((what for network, what in SPECIAL if ip.version == network.version and ip in network), "")


@lru_cache(maxsize=4096)
def _embedded(ip: IPAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses that the kernel or a gateway may make of an IPv6 address."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    found: list[ipaddress.IPv4Address] = []
    if int(ip) > 1 and (any(ip in network for network in _IPV4_AT_THE_END) or _is_isatap(ip)):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
    if ip.sixtofour is not None:
        found.append(ip.sixtofour)
    return (*found, *(ip.teredo or ()))


_IPV4_AT_THE_END: Final = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))  # compatible, translated, NAT64
)


def _is_isatap(ip: ipaddress.IPv6Address) -> bool:
    return int(ip) >> 32 & 0xFDFF_FFFF == 0x0000_5EFE  # 0000:5efe or 0200:5efe before the IPv4 address


# -- texts


def normal_target_network(text: str) -> str:
    """Return the normal form of one entry of `TargetPolicy.networks`.

    Raises:
        InvalidValue: it is neither `USUAL` nor a network.
    """
    return USUAL if text.strip().lower() == USUAL else normal_network(text)


def parse_port_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the ranges of ``80, 8000-8999``: first and last of each, each once.

    Raises:
        InvalidValue: one of them is none.
    """
    found: dict[tuple[int, int], None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        matched = _PORT_RANGE.fullmatch(part)
        if matched is None:
            raise InvalidValue("port range", part, "is none", _PORT_REMEDY)
        first, last = int(matched[1]), int(matched[2] or matched[1])
        if not 1 <= first <= 65535 or not 1 <= last <= 65535:
            raise InvalidValue("port range", part, "goes beyond the ports that there are", "use ports from 1 to 65535")
        if first > last:
            raise InvalidValue("port range", part, "ends before it begins", f"write {last}-{first}")
        found[first, last] = None
    return tuple(found)


def in_port_ranges(port: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Tell whether a port is in one of the ranges."""
    return any(first <= port <= last for first, last in ranges)


def port_ranges_text(ranges: Iterable[tuple[int, int]]) -> str:
    """Return the text of ranges, which `parse_port_ranges` reads back."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
