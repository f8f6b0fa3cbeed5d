"""Streams, TCP and UDP alike: one user's connection, and what it needs of the session that carries it."""

from __future__ import annotations

import asyncio
import uuid
from enum import Enum
from typing import Final, Protocol

from relay.events import StreamInfo
from relay.limits.quota import Gate
from relay.protocol.messages import Connect
from relay.protocol.states import Transitions, advance
from relay.protocol.stream import StreamState
from relay.sessions.totals import Totals
from relay.timings import Timings

MESSAGE_OVERHEAD: Final = 64
"""Bytes that a message costs beside its payload while it waits: many small ones take more room than their bytes."""


class StreamHost(Protocol):
    """What a stream needs of its session.

    Attributes:
        read_buffer: what targets are read into: one for all streams, empty between two calls of the loop.
        write_blocked: the session's socket takes no more bytes for now.
    """

    read_buffer: memoryview
    timings: Timings
    totals: Totals

    @property
    def tenant(self) -> str: ...
    @property
    def write_blocked(self) -> bool: ...
    def takes(self, size: int) -> bool:
        """Say whether the session's socket takes a message of ``size`` bytes now."""

    def block(self, stream: Stream) -> None:
        """Tell the stream (`Stream.writable`) when the session's socket takes bytes again."""

    def send_data(self, stream: Stream, payload: bytes | memoryview) -> None:
        """Send one data message of a stream that may send."""

    def send_read(self, stream: Stream, size: int) -> None:
        """Send the ``size`` bytes that were read from a target into `read_buffer`."""

    def consumed(self, stream: Stream, count: int) -> None:
        """Note that the target took ``count`` messages."""

    def stream_begun(self, stream: Stream) -> None:
        """Count a stream that will have a target, and give it its `Stream.gate`."""

    def stream_queued(self, stream: Stream, count: int) -> None:
        """Note that ``count`` more bytes wait for the stream's target."""

    def stream_ended(self, stream: Stream, reason: str) -> None:
        """Tell the node that the stream is over."""

    def stream_gone(self, stream: Stream) -> None:
        """Count a stream no more: nothing is left of its target."""

    def give_up(self, stream: Stream) -> None:
        """End a stream whose target is too slow, with what waits for it."""

    def info_of(self, stream: Stream) -> StreamInfo:
        """Return which stream it is, for events and snapshots."""


class StreamPhase(Enum):
    """How far a stream has come."""

    CARRYING = "carrying"
    LAST_BYTES = "last bytes"
    """The target has sent its last byte, and some wait for the node still."""
    ENDED = "ended"
    """The node has been told of the end."""
    FINISHING = "finishing"
    """The protocol has forgotten the stream; what was received is still being delivered to the target."""
    DROPPED = "dropped"


class StreamStep(Enum):
    """What brings a stream further."""

    TARGET_DONE = "the target has sent its last byte"
    NODE_TOLD = "we ended it"
    USER_LEFT = "the user left"
    TARGET_CLOSED = "the target is closed behind what waits for it"
    ABORTED = "it broke"


_ABORTED: Final = {StreamStep.ABORTED: StreamPhase.DROPPED}

STREAM_TRANSITIONS: Final[Transitions[StreamPhase, StreamStep]] = {
    StreamPhase.CARRYING: {
        StreamStep.TARGET_DONE: StreamPhase.LAST_BYTES,
        StreamStep.NODE_TOLD: StreamPhase.ENDED,
        StreamStep.USER_LEFT: StreamPhase.FINISHING,
    }
    | _ABORTED,
    StreamPhase.LAST_BYTES: {
        StreamStep.TARGET_DONE: StreamPhase.LAST_BYTES,
        StreamStep.NODE_TOLD: StreamPhase.ENDED,
        StreamStep.USER_LEFT: StreamPhase.FINISHING,
    }
    | _ABORTED,
    StreamPhase.ENDED: {StreamStep.TARGET_CLOSED: StreamPhase.FINISHING} | _ABORTED,
    StreamPhase.FINISHING: {StreamStep.TARGET_CLOSED: StreamPhase.FINISHING} | _ABORTED,
    StreamPhase.DROPPED: {StreamStep.TARGET_CLOSED: StreamPhase.DROPPED} | _ABORTED,
}


class Stream:
    """What TCP and UDP streams have in common."""

    def __init__(self, host: StreamHost, state: StreamState) -> None:
        self.host = host
        self.state = state
        self.id = str(uuid.UUID(bytes=state.id))
        self.request: Connect | None = state.request
        self.target = ""
        self.queued = 0
        """Bytes that wait for the target, with `MESSAGE_OVERHEAD` for each message."""
        self.drained = 0
        """Bytes that had to wait for the target, and that it has taken."""
        self.read_paused = False
        """The target is not read: the node, the session's socket or a limit takes no more for now."""
        self.routed = False
        """The route table says where the stream goes, not a connect handler."""
        self.phase = StreamPhase.CARRYING
        self.ended = False
        """The protocol has forgotten the stream: nothing more is sent to the node for it. Follows `phase`."""
        self.dial: asyncio.Task[None] | None = None
        self.connected = False
        """The dial has succeeded."""
        self.gate: Gate
        """Where it is counted and pays for its bytes; from `StreamHost.stream_begun` on."""
        self.owed_upload = self.owed_download = 0
        """Bytes that were carried and are not paid for yet."""
        self.gone = False
        """Nothing is left of its target."""
        self.reason = ""
        """What we told the node of the stream's end; empty where it was not we who ended it."""
        self.preface = b""
        """What the target gets before the user's bytes; a UDP target before each datagram."""

    def receive(self, payload: memoryview) -> None:
        """Take one data message of the node; the view is valid during the call."""
        raise NotImplementedError

    def writable(self) -> None:
        """Go on sending: credits arrived, or the session's socket takes bytes again."""
        raise NotImplementedError

    def finish(self) -> None:
        """Give the target what it has not got yet, then close it: the user left."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the target at once: the stream broke."""
        raise NotImplementedError

    @property
    def tenant(self) -> str:
        """Slug of the tenant whose stream it is."""
        return self.host.tenant

    @property
    def age(self) -> float:
        """Seconds since the node announced it, or was asked for it."""
        return asyncio.get_running_loop().time() - self.state.opened_at

    @property
    def finishing(self) -> bool:
        """The protocol has forgotten it, and what was received is still being delivered."""
        return self.phase is StreamPhase.FINISHING

    def info(self) -> StreamInfo:
        """Return which stream it is, for events and snapshots."""
        return self.host.info_of(self)

    def give_up(self) -> None:
        """End the stream, with what waits for its target, which is too slow."""
        self.host.give_up(self)

    def end(self, reason: str) -> None:
        """End the stream from our side."""
        if not self.ended:
            self.advance(StreamStep.NODE_TOLD)
            self.reason = reason
            self.host.stream_ended(self, reason)

    def advance(self, step: StreamStep) -> None:
        """Take a step of `STREAM_TRANSITIONS`."""
        self.phase = advance(STREAM_TRANSITIONS, self.phase, step)
        self.ended = self.phase not in (StreamPhase.CARRYING, StreamPhase.LAST_BYTES)
