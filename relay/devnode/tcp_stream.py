"""A stream carried by a TCP connection: messages of 32 KiB one way, a buffer of 64 messages the other."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, cast

from relay.devnode.stream import NodeStream
from relay.protocol.messages import Reason

if TYPE_CHECKING:
    from relay.devnode.node import DevNode


class NodeTcpStream(NodeStream, asyncio.BufferedProtocol):
    """The node's end of a TCP connection, once it belongs to a stream."""

    def __init__(self, node: DevNode, stream_id: bytes | None = None) -> None:
        super().__init__(node, stream_id)
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._blocked = False
        self._holding = False
        self._finishing = False
        self._reading = True
        self._last_read = self._loop.time()
        self._last_write = -math.inf
        self._extended_to = 0.0
        self._starved_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # -- from the client

    def deliver(self, payload: bytes) -> None:
        self.count_arrival()
        if self.transport is None or self._finishing:
            return
        if not self._blocked:
            self._write(payload)
            return
        if len(self._waiting) >= self.node.options.user_buffer and self.node.options.attested:
            assert self.session is not None
            self.session.counters.over_sends += 1
            self.kill(Reason.BUFFER_FULL)
            return
        self._waiting.append(payload)
        if not self.node.options.attested and not self._holding and len(self._waiting) >= self.node.options.user_buffer:
            # No credits in this dialect: the node stops reading the session until this user has taken its data.
            assert self.session is not None
            self._holding = True
            self.session.connection.hold()

    def finish(self) -> None:
        self._finishing = True
        if not self._waiting and not self._blocked:
            self._close()

    def cut(self) -> None:
        self._release()
        self._waiting.clear()
        self._close()

    def window_changed(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self.window.exhausted:
            if self._starved_since is None:
                self._starved_since = self._loop.time()
        else:
            self._starved_since = None
        if self.readable != self._reading:
            self._reading = self.readable
            if self._reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # -- from the user

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=0)
        self.node.tcp_streams.add(self)
        self._set_idle_timer(self.node.options.idle_timeout)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.node.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.forward(self.node.read_buffer[:nbytes])

    def forward(self, payload: memoryview | bytes) -> None:
        """Send what the user sent; a full lane kills the connection."""
        self._last_read = self._loop.time()
        if self.send(payload):
            self.window_changed()
            if not self.window.limited:
                self._take_turns()
        else:
            self.kill()

    def eof_received(self) -> None:
        self.leave(notify=True)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._took()
        while self._waiting and not self._blocked:
            self._write(self._waiting.popleft())
        if len(self._waiting) < self.node.options.user_buffer:
            self._release()
        if self._finishing and not self._waiting and not self._blocked:
            # Not here: asyncio before 3.12 loses a transport that is closed inside resume_writing twice.
            self._loop.call_soon(self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.tcp_streams.discard(self)
        self._release()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._waiting.clear()
        self.leave(notify=True)
        self.node.changed()

    def drop(self) -> None:
        """Drop the socket, whatever waits: the node goes away."""
        if self.transport is not None:
            self.transport.abort()

    def kill(self, reason: str = "") -> None:
        """Drop the user's connection and tell the client, if the lane has room for that."""
        if self.session is not None:
            self.session.counters.users_killed += 1
        self._release()
        self.leave(notify=True, reason=reason)
        self.drop()

    # -- inside

    def _take_turns(self) -> None:
        """Let the others and the session have their turn before the next read.

        uvloop reads one socket up to 32 times in a row, which no node does: a few users fill the lane in one go.
        """
        if self._reading and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        if self._reading and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _write(self, payload: bytes) -> None:
        assert self.transport is not None
        self.transport.write(payload)
        if not self._blocked:
            self._took()

    def _took(self) -> None:
        self._last_write = self._loop.time()
        self.count_taken()

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            assert self.session is not None
            self.session.connection.release()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _set_idle_timer(self, delay: float) -> None:
        self._idle_timer = self._loop.call_later(delay, self._check_idle)

    def _check_idle(self) -> None:
        limit, now = self.node.options.idle_timeout, self._loop.time()
        due = max(self._last_read + limit, self._extended_to)
        if self._starved_since is not None:
            due = min(due, self._starved_since + limit)
        elif now >= due and now - self._last_write < limit:
            due = self._extended_to = now + limit
        if now < due:
            self._set_idle_timer(due - now)
            return
        if self.session is not None:
            self.session.counters.idle_kills += 1
        self.kill(Reason.TIMEOUT)
