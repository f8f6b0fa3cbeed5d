"""Finds the hostname in the first bytes of a user's connection: TLS SNI (RFC 6066 section 3) or HTTP Host."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOST = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_HEADERS_END = re.compile(rb"\r?\n\r?\n")

_RECORD_HANDSHAKE = 22
_CLIENT_HELLO = 1
_EXTENSION_SERVER_NAME = 0


class NoHostname(Exception):
    """The bytes are complete and name no host."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """Where a user wants to go: the hostname in lower case, without a port."""

    hostname: str
    is_tls: bool


def sniff(data: bytes | bytearray) -> Sniffed | None:
    """Return what the first bytes say, None when more are needed.

    Raises:
        NoHostname: they cannot say it any more.
    """
    if not data:
        return None
    if data[0] == _RECORD_HANDSHAKE:
        name = _server_name(data)
        return Sniffed(_normalise(name), True) if name is not None else None
    host = _HOST.search(data)
    end = _HEADERS_END.search(data)
    if host is None or (end is not None and end.start() < host.start()):
        if end is not None:
            raise NoHostname("HTTP request without Host")
        return None
    return Sniffed(_without_port(_normalise(host[1])), False)


def _normalise(name: bytes) -> str:
    try:
        text = name.decode("ascii").lower().rstrip(".")
    except UnicodeDecodeError:
        raise NoHostname("hostname is not ASCII") from None
    if not text:
        raise NoHostname("hostname is empty")
    return text


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _server_name(data: bytes | bytearray) -> bytes | None:
    hello = _client_hello(data)
    if hello is None:
        return None
    try:
        return _find_server_name(hello)
    except IndexError:
        raise NoHostname("ClientHello is cut short") from None


def _client_hello(data: bytes | bytearray) -> bytes | None:
    """Return the ClientHello's body out of one or more records (RFC 8446 section 5.1), None when more are needed."""
    handshake = bytearray()
    position = 0
    while position + 5 <= len(data):
        if data[position] != _RECORD_HANDSHAKE:
            raise NoHostname("TLS record is no handshake")
        length = int.from_bytes(data[position + 3 : position + 5])
        handshake += data[position + 5 : position + 5 + length]
        position += 5 + length
        if len(handshake) >= 4:
            if handshake[0] != _CLIENT_HELLO:
                raise NoHostname("TLS handshake does not begin with a ClientHello")
            needed = 4 + int.from_bytes(handshake[1:4])
            if len(handshake) >= needed:
                return bytes(handshake[4:needed])
    return None


def _find_server_name(hello: bytes) -> bytes:
    position = 2 + 32  # version, random
    position += 1 + hello[position]  # session id
    position += 2 + int.from_bytes(hello[position : position + 2])  # cipher suites
    position += 1 + hello[position]  # compression methods
    end = position + 2 + int.from_bytes(hello[position : position + 2])
    position += 2
    while position + 4 <= min(end, len(hello)):
        kind = int.from_bytes(hello[position : position + 2])
        length = int.from_bytes(hello[position + 2 : position + 4])
        position += 4
        if kind == _EXTENSION_SERVER_NAME:
            # list length (2), name type (1), name length (2), name
            name_length = int.from_bytes(hello[position + 3 : position + 5])
            return hello[position + 5 : position + 5 + name_length]
        position += length
    raise NoHostname("ClientHello without SNI")
