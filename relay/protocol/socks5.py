"""SOCKS5 as a server speaks it: what a program asks for, and the replies (RFC 1928). No I/O.

No authentication, CONNECT only.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

from relay.protocol.messages import MAX_TARGET_ADDRESS

MAX_REQUEST: Final = 4 + 1 + 255 + 2
"""Bytes of the longest SOCKS request."""

VERSION: Final = 5
NO_AUTHENTICATION: Final = 0
NO_METHOD: Final = 0xFF
CONNECT: Final = 1


class Reply:
    """Replies of RFC 1928, section 6."""

    SUCCEEDED: Final = 0
    FAILURE: Final = 1
    NOT_ALLOWED: Final = 2
    REFUSED: Final = 5
    COMMAND_NOT_SUPPORTED: Final = 7
    ADDRESS_NOT_SUPPORTED: Final = 8


class NotSocks(Exception):
    """The first byte is not SOCKS5's: there is no reply that the program would know."""


def parse_greeting(data: bytes) -> tuple[bool, int] | None:
    """Return whether a program takes no authentication, and the greeting's length; None while it is incomplete.

    Raises:
        NotSocks: it speaks something else.
    """
    if data and data[0] != VERSION:
        raise NotSocks
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    end = 2 + data[1]
    return NO_AUTHENTICATION in data[2:end], end


def greeting_reply(accepted: bool) -> bytes:
    """Return the answer to a greeting."""
    return bytes((VERSION, NO_AUTHENTICATION if accepted else NO_METHOD))


class RequestRefused(Exception):
    """A request that is answered with an error."""

    def __init__(self, reply: int) -> None:
        super().__init__(f"SOCKS5 reply {reply}")
        self.reply = reply


def parse_request(data: bytes) -> tuple[str, int] | None:
    """Return the target (``host:port``) of a SOCKS request and its length, None while it is incomplete.

    Raises:
        RequestRefused: it is not a CONNECT to an address that the node takes.
    """
    if len(data) < 5:
        return None
    version, command, _, kind, first = data[:5]
    if version != VERSION:
        raise RequestRefused(Reply.FAILURE)
    if command != CONNECT:
        raise RequestRefused(Reply.COMMAND_NOT_SUPPORTED)
    if kind == 1:
        start, size = 4, 4
    elif kind == 3:
        start, size = 5, first
    elif kind == 4:
        start, size = 4, 16
    else:
        raise RequestRefused(Reply.ADDRESS_NOT_SUPPORTED)
    end = start + size + 2
    if len(data) < end:
        return None
    address, (port,) = data[start : start + size], struct.unpack("!H", data[end - 2 : end])
    if kind == 3:
        host = address.decode("ascii", "replace")
        if not host or not host.isascii() or not host.isprintable() or ":" in host or " " in host:
            raise RequestRefused(Reply.ADDRESS_NOT_SUPPORTED)
    else:
        host = str(ipaddress.ip_address(address))
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if len(target) > MAX_TARGET_ADDRESS:
        raise RequestRefused(Reply.ADDRESS_NOT_SUPPORTED)
    return target, end


def reply(code: int) -> bytes:
    """Return the message for a reply of RFC 1928."""
    return struct.pack("!BBBBIH", VERSION, code, 0, 1, 0, 0)
