"""Users' addresses, as nodes write them in ``client_ip`` (docs/protocol.md, "Binary frames")."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Where a user comes from.

    Attributes:
        ip: without a zone; an IPv4 address that was written as an IPv6 one (``::ffff:192.0.2.1``) is IPv4 here.
        port: 0 where the node did not say it.
    """

    ip: IPAddress
    port: int = 0


def parse_client_address(text: str) -> ClientAddress | None:
    """Return the address that ``203.0.113.9:51234``, ``[2001:db8::1]:51234`` or a bare IP address says.

    None for anything else: it comes from the node, and nothing else of its text may reach a header or a decision.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ClientAddress(ip, int(port or 0))
