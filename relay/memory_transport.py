"""A stream that ends inside this process: two connected asyncio transports without a socket.

For connect handlers of programs that embed the relay::

    async def handler(request):
        reader, writer, upstream = memory_stream()
        asyncio.create_task(serve(reader, writer))
        return upstream
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from relay.protocol.frames import MAX_PAYLOAD

HIGH_WATER: Final = 64 * 1024


class MemoryTransport(asyncio.Transport):
    """One end of a pair. What is written to it arrives at the protocol of the other, in order and bounded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.Protocol | asyncio.BufferedProtocol | None = None
        self._peer: MemoryTransport = self
        self._incoming: deque[memoryview | None] = deque()  # None: the peer's EOF
        self._incoming_size = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._writer_paused = False
        self._reading = True
        self._scheduled = False
        self._eof_sent = False
        self._closing = False
        self._lost = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        self._protocol = protocol
        self._schedule()

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._peer._incoming_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._eof_sent or self._closing or self._lost or not data:
            return
        if self._peer._lost:
            # As with a socket: what is written to an end that has closed breaks the connection.
            self._closing = True
            self._loop.call_soon(self._lose, BrokenPipeError("the other end has closed"))
            return
        self._peer._incoming.append(memoryview(bytes(data)))
        self._peer._incoming_size += len(data)
        self._peer._schedule()
        if not self._writer_paused and self._peer._incoming_size > self._high and self._protocol is not None:
            self._writer_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_sent and not self._lost:
            self._eof_sent = True
            self._peer._incoming.append(None)
            self._peer._schedule()

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        if not self._closing:
            self.write_eof()
            self._closing = True
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._lost:
            self._eof_sent = self._closing = True
            self._peer._incoming.clear()
            self._loop.call_soon(self._lose, None)
            self._loop.call_soon(self._peer._lose, ConnectionResetError("the other end aborted"))

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._incoming.clear()
        self._incoming_size = 0
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        # Nothing that is written from now on can be read.
        self._peer._drained()

    def _schedule(self) -> None:
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        protocol = self._protocol
        if protocol is None or self._closing or self._lost or not self._reading or not self._incoming:
            return
        data = self._incoming.popleft()
        if data is None:
            if not protocol.eof_received():
                self.close()
            return
        self._incoming_size -= len(data)
        if isinstance(protocol, asyncio.BufferedProtocol):
            rest = _feed(protocol, data)
            if rest:
                self._incoming.appendleft(rest)
                self._incoming_size += len(rest)
        else:
            protocol.data_received(bytes(data))
        self._peer._drained()
        if self._incoming:
            self._schedule()

    def _drained(self) -> None:
        if self._writer_paused and (self._peer._incoming_size <= self._low or self._peer._lost):
            self._writer_paused = False
            if self._protocol is not None and not self._lost:
                self._protocol.resume_writing()


def _feed(protocol: asyncio.BufferedProtocol, data: memoryview) -> memoryview:
    """Fill the protocol's buffer once and return what did not fit."""
    buffer = memoryview(protocol.get_buffer(len(data)))
    count = min(len(buffer), len(data))
    buffer[:count] = data[:count]
    protocol.buffer_updated(count)
    return data[count:]


def memory_stream() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, MemoryTransport]:
    """Return the application's reader and writer, and the end to return from a connect handler."""
    loop = asyncio.get_running_loop()
    ours, theirs = MemoryTransport(loop), MemoryTransport(loop)
    ours._peer, theirs._peer = theirs, ours
    reader = asyncio.StreamReader(limit=HIGH_WATER)
    protocol = asyncio.StreamReaderProtocol(reader)
    protocol.connection_made(ours)
    ours.set_protocol(protocol)
    return reader, asyncio.StreamWriter(ours, protocol, reader, loop), theirs


def splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[MemoryTransport, asyncio.Task[None]]:
    """Join a connected reader and writer to a memory stream. Return its end and the task that carries the bytes."""
    inner_reader, inner_writer, upstream = memory_stream()

    async def carry() -> None:
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            for end in (writer, inner_writer):
                end.close()

    return upstream, asyncio.create_task(carry())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(MAX_PAYLOAD):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except OSError:
        # Not a close: the reader must not take a broken stream for a whole one.
        writer.transport.abort()
