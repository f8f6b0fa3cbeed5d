"""What a connect handler is asked, and what it may answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from relay.config.port_options import DIAL_TIMEOUT, ProxyProtocol
from relay.config.targets import Target
from relay.memory_transport import MemoryTransport
from relay.protocol.messages import Reason


class NoRoute(Exception):
    """Raised by a connect handler: let the configured routes decide. Where they have none, the user is refused.

    Returning None says the same.
    """


class Refused(Exception):
    """Raised by a connect handler: refuse the user.

    Args:
        problem: why, for the log.
        reason: what the node is told; one of `relay.protocol.messages.Reason`.
    """

    def __init__(self, problem: str, reason: str = Reason.DIAL_FAILED) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Dial:
    """Targets of which the first that answers gets the stream, and how it is dialled.

    Attributes:
        timeout: seconds for all of them together.
        proxy_protocol: header that the target gets in front of the stream.
    """

    targets: tuple[Target, ...]
    timeout: float = DIAL_TIMEOUT
    proxy_protocol: ProxyProtocol = ProxyProtocol.NONE


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A user's connection that wants a target.

    Attributes:
        backend: name of the backend whose session it came in on.
        stream_id: UUID of the stream.
        hostname: SNI or Host in normal form; ``tcp:PORT`` or ``udp:PORT`` for a claimed port.
        original_hostname: the same as the node wrote it.
        port: the public port.
        client_address: the user's address with port (``203.0.113.9:51234``, ``[2001:db8::1]:51234``).
        is_tls: the user speaks TLS.
        transport: ``tcp`` or ``udp``.
        tenant: slug of the backend's tenant.
    """

    backend: str
    stream_id: str
    hostname: str
    original_hostname: str
    port: int
    client_address: str
    is_tls: bool
    transport: str
    tenant: str = ""


Upstream: TypeAlias = str | Target | Dial | MemoryTransport | tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""Where a stream may go: a target (as text; several with commas between), a `Dial`, an in-memory stream, or a
connected pair."""

ConnectHandler: TypeAlias = Callable[[ConnectRequest], Awaitable[Upstream | None]]
"""Decides where a stream goes; returns None, or raises `NoRoute`, to leave it to the configured routes."""
