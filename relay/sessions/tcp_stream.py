"""TCP streams: one user's connection, its target, and what waits on the way to it.

Rules that keep streams apart and bounded (docs/relay.md):

* A target is read only while the node takes data of its stream (credits) and the session's socket takes bytes. Each
  read is one message, of 32 KiB at most, so that streams take turns.
* What the node sent waits here until the target takes it. Only what was taken is granted again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from typing import Final, cast

from relay.protocol.frames import MAX_PAYLOAD
from relay.protocol.messages import Reason
from relay.protocol.stream import StreamState
from relay.sessions.streams import MESSAGE_OVERHEAD, Stream, StreamHost, StreamPhase, StreamStep

TARGET_HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait in a target's transport before its stream counts as slow."""


class TcpStream(Stream, asyncio.BufferedProtocol):
    """A stream to a TCP or Unix target, or to an in-memory one."""

    def __init__(self, host: StreamHost, state: StreamState) -> None:
        super().__init__(host, state)
        host.stream_begun(self)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._queue: deque[bytes] = deque()
        self._target_full = False
        self._written = 0  # messages that a full transport took; they count as consumed once it has room
        self._held = b""
        self._unpaid = False
        self._done: str | None = None
        self._flush_progress = 0

    # -- asyncio.BufferedProtocol: the target ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(high=TARGET_HIGH_WATER, low=TARGET_HIGH_WATER // 4)
        sock = transport.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        if self.preface:
            self._write(self.preface)
        if self.finishing:
            self._watch_flush()
        self._drain()

    def get_buffer(self, sizehint: int) -> memoryview:
        # One buffer serves all targets: the loop reads into it and calls `buffer_updated` at once.
        return self.host.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.ended:
            return
        host, state = self.host, self.state
        if self._held or self._unpaid or not state.can_send() or not host.takes(nbytes):
            self._held += host.read_buffer[:nbytes]
            self._pause()
            return
        host.send_read(self, nbytes)
        if (self.gate.download is not None and not self._pays(nbytes)) or not state.can_send():
            self._pause()

    def _pays(self, size: int) -> bool:
        """Pay for what was sent; until that is done nothing more is read."""
        pacers = self.gate.download
        self._unpaid = pacers is not None and not pacers.pay(size, lambda: self._paid(size))
        if self._unpaid:
            self.owed_download += size
        return not self._unpaid

    def _paid(self, size: int) -> None:
        self._unpaid = False
        self.owed_download -= size
        if self.gone:
            self.gate.owe(0, -size)
        self.writable()

    def push(self, data: bytes) -> None:
        """Take bytes that were read from the target before this stream had it."""
        while data:
            part, data = data[:MAX_PAYLOAD], data[MAX_PAYLOAD:]
            self.host.read_buffer[: len(part)] = part
            self.buffer_updated(len(part))

    def eof_received(self) -> bool:
        self._target_done(Reason.NORMAL)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        unread, self._written = len(self._queue) + self._written, 0
        self._queue.clear()
        self.queued = 0
        if unread and not self.ended:
            self.host.consumed(self, unread)
        self._target_done(Reason.LOCAL_ERROR if exc else Reason.NORMAL)
        self.host.stream_gone(self)

    def pause_writing(self) -> None:
        self._target_full = True

    def resume_writing(self) -> None:
        self._target_full = False
        if self._written:
            written, self._written = self._written, 0
            self._consumed(written, written * MAX_PAYLOAD)
        self._drain()

    # -- towards the target ------------------------------------------------------------------------------------

    def receive(self, payload: memoryview) -> None:
        if self.ended:
            return
        transport = self._transport
        if transport is None and self._done is not None:
            # The target is gone and its last bytes wait for the node: a user who is still sending must get at them.
            self.host.consumed(self, 1)
            return
        if transport is None or self._target_full or self._queue:
            self._queue.append(bytes(payload))
            waits = len(payload) + MESSAGE_OVERHEAD
            self.queued += waits
            self.host.stream_queued(self, waits)
            return
        self._write(payload)
        self._taken(1, len(payload))

    def _write(self, data: bytes | memoryview) -> None:
        """Write to the target, past its transport where nothing waits in there: no copy, and it has it at once."""
        transport = self._transport
        assert transport is not None
        if self._fd >= 0 and not transport.get_write_buffer_size() and not transport.is_closing():
            try:
                sent = os.write(self._fd, data)
            except OSError:
                sent = 0  # full, or broken, which the transport finds out in its own way
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(bytes(data))

    def _taken(self, count: int, size: int) -> None:
        """Note that the transport took ``count`` messages; the one that filled it up counts when it has room."""
        if self._target_full:
            self._written += 1
            count -= 1
        if count:
            self._consumed(count, size)

    def _consumed(self, count: int, size: int) -> None:
        """Let the node send more, when the ``size`` bytes are paid for."""
        pacers = self.gate.upload
        if pacers is None or pacers.pay(size, lambda: self._paid_upload(count, size)):
            self.host.consumed(self, count)
        else:
            self.owed_upload += size

    def _paid_upload(self, count: int, size: int) -> None:
        self.owed_upload -= size
        if self.gone:
            self.gate.owe(-size, 0)
        self.host.consumed(self, count)

    def _drain(self) -> None:
        """Write what waits, as far as the target takes it."""
        queue, count, size = self._queue, 0, 0
        while queue and not self._target_full and self._transport is not None:
            payload = queue.popleft()
            self.queued -= len(payload) + MESSAGE_OVERHEAD
            self._write(payload)
            count += 1
            size += len(payload)
        if count:
            self.drained += size
            self._taken(count, size)
        if self.phase is StreamPhase.FINISHING and not queue:
            self._half_close()

    # -- towards the node --------------------------------------------------------------------------------------

    def writable(self) -> None:
        host = self.host
        if self.ended or self._unpaid or host.write_blocked or not self.state.can_send():
            if host.write_blocked and not self.ended:
                host.block(self)
            return
        if self._held:
            held = self._held[:MAX_PAYLOAD]
            self._held = self._held[MAX_PAYLOAD:]
            host.send_data(self, held)
            if not self._pays(len(held)):
                return
            if self._held:
                self.writable()
                return
        if self._done is not None:
            self.end(self._done)
            self._close()
        elif self.state.can_send():
            self._resume()

    def _pause(self) -> None:
        if self._transport is not None and not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()
        if self.host.write_blocked:
            self.host.block(self)

    def _resume(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _target_done(self, reason: str) -> None:
        """The target has sent its last byte: the stream ends as soon as the node has it."""
        if self.ended:
            if self.finishing and not self._queue:
                self._close()
            return
        if self._held:
            self._done = self._done or reason
            self.advance(StreamStep.TARGET_DONE)
            return
        self.end(reason)
        self._close()

    # -- end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        self.advance(StreamStep.USER_LEFT)
        self._held = b""
        if self._transport is None:
            if self.dial is not None and not self._queue:
                self.dial.cancel()
            return  # else: delivered when the dial is done
        self._resume()
        self._watch_flush()
        if not self._queue:
            self._half_close()

    def _close(self) -> None:
        """Close the target after what is written for it."""
        if self._transport is None:
            return
        self.advance(StreamStep.TARGET_CLOSED)
        if not self._queue:
            self._transport.close()
        self._watch_flush()

    def _half_close(self) -> None:
        # A close with unread bytes in the socket is a reset, which could take from the target what it has not read
        # yet. So: end our side only, throw away what still comes, and close a little later.
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
        asyncio.get_running_loop().call_later(self.host.timings.linger, self._close_lingering)

    def _close_lingering(self) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size() == 0:
            self._transport.close()

    def _watch_flush(self) -> None:
        """Give up the rest for a target that takes nothing of it."""
        if self._transport is None:
            return
        waiting = self.queued + self._transport.get_write_buffer_size()
        if waiting and waiting == self._flush_progress:
            self.abort()
            return
        self._flush_progress = waiting
        if waiting:
            asyncio.get_running_loop().call_later(self.host.timings.flush_stall, self._watch_flush)
        elif self.finishing:
            self._close_lingering()

    def abort(self) -> None:
        self.advance(StreamStep.ABORTED)
        self._queue.clear()
        self.queued = 0
        if self._transport is None:
            if self.dial is not None:
                self.dial.cancel()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            # A reset, not a FIN: the target must not take a cut upload for a whole one.
            with contextlib.suppress(OSError, ValueError):  # ValueError: uvloop has closed it already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
