"""What a relay tells the program that embeds it: sessions and streams that come and go.

A callback (`Relay`, ``on_event``) is called on the event loop, in the order in which things happen; it must not block.
Nothing is told of single messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from relay.logs import Once, get_logger

_log = get_logger("relay.events")


@dataclass(frozen=True, slots=True)
class _Told:
    """Something that is told.

    Attributes:
        at: when it happened, in seconds since 1970 (UTC). Two events that differ in it alone are equal.
    """

    at: float = field(default_factory=time.time, kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class SessionUp(_Told):
    """A node has taken a session.

    Attributes:
        replaced: it serves in place of an earlier one, which goes on until its streams have ended.
    """

    backend: str
    tenant: str
    node: str
    replaced: bool


@dataclass(frozen=True, slots=True)
class SessionDown(_Told):
    """A session ended, or an attempt to open one failed.

    Attributes:
        was_up: the node had taken it.
        problem: why, in words; holds no secret.
        retry_in: seconds until the next attempt; None where there is none.
    """

    backend: str
    tenant: str
    node: str
    was_up: bool
    problem: str
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class ReauthStarted(_Told):
    """A node has asked a session for a new token, and one is being made. Where it asks again, this comes again."""

    backend: str
    tenant: str
    node: str


@dataclass(frozen=True, slots=True)
class ReauthCompleted(_Told):
    """The answer to `ReauthStarted` has been given, or given up.

    Attributes:
        seconds: that it took.
        problem: why there is no token; empty where one was sent. A node that refuses it ends the session.
    """

    backend: str
    tenant: str
    node: str
    seconds: float
    problem: str


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Which stream an event is about.

    Attributes:
        stream_id: UUID.
        hostname: as the node wrote it; ``tcp:PORT`` or ``udp:PORT`` for a claimed port, empty for an outbound stream.
        port: the public port; 0 for an outbound stream.
        transport: ``tcp`` or ``udp``.
        client_address: the user's address with port; empty for an outbound stream.
        target: where it goes; empty while that is not known.
    """

    backend: str
    tenant: str
    node: str
    stream_id: str
    hostname: str
    port: int
    transport: str
    client_address: str
    target: str


@dataclass(frozen=True, slots=True)
class StreamConnected(_Told):
    """The target has taken the stream."""

    stream: StreamInfo


@dataclass(frozen=True, slots=True)
class StreamRefused(_Told):
    """A user was turned away.

    Attributes:
        reason: what the node was told (`relay.protocol.messages.Reason`).
        problem: why, in words.
    """

    stream: StreamInfo
    reason: str
    problem: str


@dataclass(frozen=True, slots=True)
class StreamClosed(_Told):
    """A stream that was connected is over, and its target too.

    Attributes:
        reason: what we told the node; empty where the user, or the session, ended it.
        seconds: since the node announced it.
        bytes_received: from the user.
        bytes_sent: to the user.
    """

    stream: StreamInfo
    reason: str
    seconds: float
    bytes_received: int
    bytes_sent: int


class Direction(StrEnum):
    """Which way bytes go."""

    UPLOAD = "upload"
    """From the user to the target."""
    DOWNLOAD = "download"
    """From the target to the user."""


@dataclass(frozen=True, slots=True)
class StreamPaused(_Told):
    """One direction of a stream has not got on for about a second, though bytes wait.

    An upload waits for its target, a download for its user, the node or a limit.
    """

    stream: StreamInfo
    direction: Direction


@dataclass(frozen=True, slots=True)
class StreamResumed(_Told):
    """A direction of a stream that was paused gets on. A stream may also end while it is paused.

    Attributes:
        seconds: since it was told that it was paused.
    """

    stream: StreamInfo
    direction: Direction
    seconds: float


RelayEvent: TypeAlias = (
    SessionUp
    | SessionDown
    | ReauthStarted
    | ReauthCompleted
    | StreamConnected
    | StreamRefused
    | StreamPaused
    | StreamResumed
    | StreamClosed
)

EventCallback: TypeAlias = Callable[[RelayEvent], None]


def guarded(callback: EventCallback, once: Once) -> EventCallback:
    """Return a callback whose errors are logged, once in a while, and go no further."""

    def emit(event: RelayEvent) -> None:
        try:
            callback(event)
        except Exception as error:
            if once.allows(type(error).__name__, group="event callback"):
                _log.exception("the event callback failed", told=type(event).__name__)

    return emit
