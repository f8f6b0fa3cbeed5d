"""What a session needs of those around it: of its backend, and of the relay that all sessions share."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakValueDictionary

from relay.config import BackendConfig
from relay.config.access import Access
from relay.config.port_options import AccessList
from relay.connect_handler import ConnectRequest, Upstream
from relay.events import EventCallback
from relay.limits.quota import Gate
from relay.logs import Once
from relay.protocol.frames import DATA_HEADER_LENGTH, MAX_OUTGOING_MESSAGE
from relay.routing import RouteTable
from relay.sessions.streams import Stream
from relay.sessions.usage import SessionBook, Usage
from relay.targets.dialing import Dialer
from relay.timings import Timings
from relay.tokens.sources import TokenSource
from relay.transport.connection import READ_BUFFER
from relay.transport.opening import NodeDialer

OPENING_AT_ONCE = 64
"""Sessions that are being opened to one node address at a time."""


class ReadBuffers:
    """What sockets are read into: one each for all sessions and for all targets of an event loop.

    They hold nothing between two calls of the loop.
    """

    def __init__(self) -> None:
        self.session = memoryview(bytearray(READ_BUFFER))
        self.message = memoryview(bytearray(MAX_OUTGOING_MESSAGE))
        """A data message: room for its header, then `target`."""
        self.target = self.message[DATA_HEADER_LENGTH:]


class Shared:
    """What all sessions of a relay share.

    Args:
        once: keeps lines about the same trouble rare.
        emit: is told of sessions and streams; raises nothing.
        nodes: opens connections to nodes.

    Attributes:
        streams: those of all sessions, past ones too, that hold or dial a target.
        sessions: those that live, those on their way out too.
        too_late: users whom nodes had sent when our Close left (`Totals.too_late`), of all sessions so far.
    """

    def __init__(self, timings: Timings, once: Once, emit: EventCallback | None, nodes: NodeDialer) -> None:
        self.timings = timings
        self.once = once
        self.emit = emit
        self.nodes = nodes
        self.buffers = ReadBuffers()
        self.streams: set[Stream] = set()
        self.sessions: set[object] = set()
        self.too_late = 0
        self._opening: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def opening(self, address: str) -> asyncio.Semaphore:
        """Return what bounds how many sessions to one node address are opened at once.

        Thousands of TLS handshakes in one instant delay them all, and a node that does not answer must not keep the
        others waiting.
        """
        return self._opening.setdefault(address, asyncio.Semaphore(OPENING_AT_ONCE))


class SessionHost(Protocol):
    """A backend, as its sessions see it.

    Everything is asked for each time it is needed, so that an edit serves the next stream and the next token.
    """

    @property
    def shared(self) -> Shared:
        """What all sessions of the relay share."""

    @property
    def config(self) -> BackendConfig:
        """The newest configuration."""

    @property
    def session_book(self) -> SessionBook:
        """What counts the backend's sessions."""

    @property
    def token_source(self) -> TokenSource:
        """Where tokens come from."""

    @property
    def dialer(self) -> Dialer:
        """What dials targets."""

    @property
    def gate(self) -> Gate:
        """What new streams have to pass."""

    @property
    def usage(self) -> Usage:
        """Where it is counted what the backend carries."""

    def access(self, rules: AccessList) -> Access:
        """Return an access list, ready to be asked."""

    def former_routes(self, request: ConnectRequest, *, removed: bool) -> RouteTable | None:
        """Return the routes that still serve what the backend no longer claims; None where it claims the name.

        Args:
            removed: a newer session is up, and does not claim what the user asks for.

        Raises:
            NoRoute: it has been removed, and is served no more.
        """

    async def route(self, request: ConnectRequest, former: RouteTable | None = None) -> Upstream:
        """Say where a stream goes.

        Args:
            former: routes that are asked behind the configured ones.

        Raises:
            NoRoute: nowhere.
            Refused: the user is not to be served.
        """
