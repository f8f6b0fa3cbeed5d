"""Headers of the PROXY protocol, which tell a target who its user is.

Source: HAProxy's ``doc/proxy-protocol.txt``, sections 2.1 (version 1) and 2.2 (version 2). What is decided where it
leaves a choice: docs/adr/0010-proxy-protocol.md.
"""

from __future__ import annotations

import struct
from typing import Final

from relay.config.client_address import ClientAddress
from relay.config.port_options import ProxyProtocol
from relay.errors import InvalidValue

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"

_VERSION_2_PROXY: Final = 0x21
_FAMILIES: Final = {4: 0x10, 6: 0x20}
_STREAM: Final = 0x01
_DATAGRAM: Final = 0x02
_UNSPECIFIED: Final = 0x00

_AUTHORITY: Final = 0x02
_UNIQUE_ID: Final = 0x05


def header(
    version: ProxyProtocol,
    client: ClientAddress | None,
    port: int,
    *,
    transport: str = "tcp",
    hostname: str = "",
    stream_id: str = "",
) -> bytes:
    """Return what a target gets in front of a stream (for ``udp`` in front of each datagram).

    The address that the user connected to is the node's and not known here: it is the unspecified one of the user's
    family, with the public port.

    Args:
        version: `ProxyProtocol.NONE` gives no header.
        client: the user; None where the node did not say it.
        port: the public port.
        hostname: SNI or Host, sent as ``PP2_TYPE_AUTHORITY``; empty for none.
        stream_id: sent as ``PP2_TYPE_UNIQUE_ID``.

    Raises:
        InvalidValue: version 1 for UDP.
    """
    if version is ProxyProtocol.V2:
        return _version_2(client, port, transport, hostname, stream_id)
    if version is ProxyProtocol.NONE:
        return b""
    if transport != "tcp":
        raise InvalidValue("PROXY protocol", str(version), "has no form for UDP", "choose v2 for this port mapping")
    if client is None:
        return b"PROXY UNKNOWN\r\n"
    destination = "0.0.0.0" if client.ip.version == 4 else "::"  # noqa: S104 - nothing listens on it
    return f"PROXY TCP{client.ip.version} {client.ip} {destination} {client.port} {port}\r\n".encode()


def _version_2(client: ClientAddress | None, port: int, transport: str, hostname: str, stream_id: str) -> bytes:
    if client is None:
        family, addresses = _UNSPECIFIED, b""
    else:
        family = _FAMILIES[client.ip.version] | (_STREAM if transport == "tcp" else _DATAGRAM)
        source = client.ip.packed
        addresses = source + bytes(len(source)) + struct.pack("!HH", client.port, port)
    body = addresses + _tlv(_AUTHORITY, hostname) + _tlv(_UNIQUE_ID, stream_id)
    return SIGNATURE + struct.pack("!BBH", _VERSION_2_PROXY, family, len(body)) + body


def _tlv(kind: int, text: str) -> bytes:
    value = text.encode()
    return struct.pack("!BH", kind, len(value)) + value if value else b""
