"""The streams of one session, from the dial to the end of the target: counted, bounded, told of."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from relay.config import NodeConfig
from relay.events import StreamClosed, StreamInfo
from relay.protocol.frames import MAX_PAYLOAD
from relay.protocol.messages import Reason
from relay.protocol.session import SessionCore
from relay.sessions.host import SessionHost
from relay.sessions.pauses import Pauses
from relay.sessions.streams import Stream
from relay.sessions.totals import Totals
from relay.sessions.usage import Usage

BOUND_FACTOR: Final = 5
"""Times `FlowControlOptions.max_buffer` messages of 32 KiB may wait for one target: 10 MiB by default.

Where a node speaks credits they keep far below it; but before a first grant arrives a whole lane (8 MiB) may be one
user's."""

SESSION_BOUND: Final = 48 * 1024 * 1024
"""Bytes that may wait for all targets of a session together."""


class StreamBook:
    """Which streams a session has.

    Args:
        core: knows which the node still has.
        totals: of the session.

    Attributes:
        live: streams that hold or dial a target, those among them whose users left before all was delivered.
        idle: nothing is left to carry, or the session is over.
        usage: where it is counted what the backend carries; set when the session begins.
    """

    usage: Usage

    def __init__(
        self,
        host: SessionHost,
        core: SessionCore,
        node: NodeConfig,
        totals: Totals,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._host, self._core, self._node, self._totals, self._log = host, core, node, totals, log
        self._shared = host.shared
        self.live: set[Stream] = set()
        self._pauses = Pauses()
        self.idle = asyncio.Event()
        self.idle.set()

    def info_of(self, stream: Stream) -> StreamInfo:
        """Return which stream it is, for events and snapshots."""
        request, backend = stream.request, self._host.config
        return StreamInfo(
            backend=backend.name,
            tenant=backend.tenant,
            node=self._node.address,
            stream_id=stream.id,
            hostname=request.hostname if request else "",
            port=request.conn_port if request else 0,
            transport=request.transport if request else "tcp",
            client_address=request.client_ip if request else "",
            target=stream.target,
        )

    def tell_of_pauses(self) -> None:
        """Look which streams do not get on. Call it about once a second."""
        if self._shared.emit is not None:
            self._pauses.look(self.live, asyncio.get_running_loop().time(), self._shared.emit)

    def begun(self, stream: Stream) -> None:
        """The stream will have a target."""
        stream.gate = self._host.gate
        stream.gate.enter()
        self.usage.entered()
        self.idle.clear()
        self.live.add(stream)
        self._shared.streams.add(stream)

    def gone(self, stream: Stream) -> None:
        """Nothing is left of the stream's target."""
        if stream in self.live:
            stream.gate.leave()
            stream.gate.owe(stream.owed_upload, stream.owed_download)
            stream.gone = True
            self.usage.left()
            if self._shared.emit is not None and stream.connected:
                state = stream.state
                self._shared.emit(
                    StreamClosed(
                        self.info_of(stream), stream.reason, stream.age, state.bytes_received, state.bytes_sent
                    )
                )
        self.live.discard(stream)
        self._shared.streams.discard(stream)
        self.note_idle()

    def queued(self, stream: Stream, count: int) -> None:
        """``count`` more bytes wait for a target. Who has the most gives way where they become too many.

        Not reading the session meanwhile would stop every stream of it, and fill the node's lane, which costs users
        their connections who have nothing to do with the slow one (docs/adr/0005).
        """
        if stream.queued > self._host.config.flow_control.max_buffer * BOUND_FACTOR * MAX_PAYLOAD:
            self.give_up(stream)
        elif (stream.queued >> 20) != (stream.queued - count >> 20):  # every MiB: summing up costs something
            waiting = [other for other in self.live if other.queued]
            if sum(other.queued for other in waiting) > SESSION_BOUND:
                self.give_up(max(waiting, key=lambda other: other.queued))

    def give_up(self, stream: Stream) -> None:
        """End a stream whose target is too slow, with what waits for it."""
        self._totals.buffer_full += 1
        if self._shared.once.allows(("buffer_full", stream.target), group=self._host.config.key):
            self._log.warning("stream given up: its target is too slow", target=stream.target, stream=stream.id)
        stream.end(Reason.BUFFER_FULL)
        stream.abort()

    def note_idle(self) -> None:
        """Look whether anything is left to carry."""
        if not self._core.streams and not self.live:
            self.idle.set()
