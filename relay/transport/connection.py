"""A WebSocket to a node on an asyncio transport (RFC 6455): websockets' handshake, then our own frames.

No tasks and no queues: what arrives is handed on in the same call, as a view of the buffer that it was read into; what
is sent leaves in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from relay.protocol.frames import MAX_INCOMING_MESSAGE
from relay.protocol.messages import MAX_JSON
from relay.timings import Timings
from relay.transport.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BrokenProtocol,
    Buffer,
    FrameDecoder,
    FrameEncoder,
    close_payload,
    parse_close,
)
from relay.transport.liveness import Liveness
from relay.transport.receiver import Receiver

READ_BUFFER: Final = 256 * 1024
"""Bytes of the buffer that sessions are read into."""

MESSAGES_A_TURN: Final = 256
"""Messages of one session that are worked on before the loop serves others."""

TURN: Final = 0.002
"""Seconds for which messages of one session are read before the loop serves others."""

FRAME_PROGRESS: Final = 16 * 1024
"""Bytes of a frame that show a node to be alive before the whole frame is here: over a slow line one may take long."""

FLUSH_AT: Final = 64 * 1024
"""Bytes of messages that are collected before they are handed to the transport."""

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait for the socket before targets are no longer read."""

WRITE_LOW_WATER: Final = 16 * 1024
"""Bytes that may still wait when targets are read again."""

UNSENT_IN_KERNEL: Final = 64 * 1024
"""Bytes that the kernel takes beyond what it could send at once."""

EXPRESS: Final = 64 * 1024
"""Bytes of small messages that may be sent while others wait for the socket."""

EXPRESS_MESSAGE: Final = 2048
"""Bytes of the largest message that counts as small."""

_NOTSENT_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)

WRITE_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait at all: a node that asks for answers and never reads them is given up."""

# websockets logs whole frames at DEBUG, tokens among them: this logger never goes that low.
_quiet = logging.getLogger("relay.transport.frames")
_quiet.setLevel(logging.WARNING)


class NodeConnection(asyncio.BufferedProtocol):
    """The asyncio protocol under one session. Made by `relay.transport.opening`.

    Args:
        buffer: what the socket is read into. Connections of one event loop may share it: it holds nothing between two
            calls of the loop.
    """

    def __init__(self, address: str, receiver: Receiver, buffer: memoryview, timings: Timings = Timings()) -> None:
        self._timings = timings
        self._handshake: ClientProtocol | None = ClientProtocol(parse_uri(address), logger=_quiet)
        self._head = b""
        self._decoder = FrameDecoder(MAX_INCOMING_MESSAGE)
        self._encoder = FrameEncoder()
        self._receiver: Receiver | None = receiver
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._rest = b""  # the beginning of a frame whose end has not come
        self._large: memoryview | None = None  # where such a frame is collected, when it is longer than the buffer
        self._filled = 0  # bytes of it, or of the buffer, that the next read comes behind
        self._waiting: memoryview | None = None  # what was read and has to wait for the loop's next turn
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._flush_due = False
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._failure: Exception | None = None
        self._unfinished = 0  # bytes that came since a frame was whole
        self._liveness = Liveness(timings, self._loop.time())
        self._written = 0
        self.write_blocked = False
        self.express_left = 0
        """Bytes of small messages that may still be sent although `write_blocked`."""
        self._open = False
        self._closing = False
        self._close_received: tuple[int, str] | None = None
        self._broken: BrokenProtocol | None = None
        self._grace: asyncio.TimerHandle | None = None

    # -- asyncio.BufferedProtocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        if self._failure is not None:
            # Given up meanwhile. uvloop goes on with a TLS handshake whose wait was cancelled as it began.
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER, low=WRITE_LOW_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _NOTSENT_LOWAT is not None:
                # What the kernel holds and has not sent cannot be overtaken by another stream any more.
                sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_IN_KERNEL)
        handshake = self._handshake
        assert handshake is not None
        handshake.send_request(handshake.connect())
        self._write_handshake(handshake)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return self._large[self._filled :]
        # The loop may ask and then have nothing (half a TLS record), so the rest is kept until something comes.
        rest = self._rest
        self._filled = len(rest)
        self._buffer[: self._filled] = rest
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._unfinished += nbytes
        if self._unfinished >= FRAME_PROGRESS:
            self._note_alive()
        end = self._filled + nbytes
        if self._large is not None:
            self._filled = end
            if end < len(self._large):
                return
            data, self._large = self._large, None
        else:
            data, self._rest = self._buffer[:end], b""
        if self._handshake is not None:
            if self._grace is not None:
                return  # it has failed: what a node still sends before it closes the socket is not kept
            data = self._read_handshake(bytes(data))
        self._work(data)

    def _note_alive(self) -> None:
        self._liveness.heard_at = self._loop.time()
        self._unfinished = 0

    def eof_received(self) -> bool:
        if self._handshake is not None:
            self._handshake.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._work(waiting, last=True)
        handshake_error = None
        if self._handshake is not None:
            self._handshake.receive_eof()
            handshake_error = self._handshake.handshake_exc
        self._open = False
        self._pending.clear()
        error = self._failure or handshake_error or exc
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionResetError("node closed the connection"))
            self.opened.exception()  # it may be that nothing waits any more
            self._receiver = None  # `relay.transport.opening` tells of it
        if not self.closed.done():
            self.closed.set_result(None)
        if self._grace is not None:
            self._grace.cancel()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if self._failure is not None:
            receiver.connection_ended(1006, "", self._failure)
        elif self._broken is not None:
            receiver.connection_ended(1006, "", ConnectionError(f"node broke the protocol: {self._broken}"))
        elif self._close_received is not None:
            receiver.connection_ended(*self._close_received, None)
        else:
            receiver.connection_ended(1006, "", error)

    def pause_writing(self) -> None:
        self.write_blocked = True
        self.express_left = EXPRESS

    def resume_writing(self) -> None:
        self.write_blocked = False
        if self._receiver is not None:
            self._receiver.writing_resumed()

    # -- opening -----------------------------------------------------------------------------------------------

    def _write_handshake(self, handshake: ClientProtocol) -> None:
        for data in handshake.data_to_send():
            if data and self._transport is not None and not self._transport.is_closing():
                self._transport.write(data)

    def _read_handshake(self, data: bytes) -> memoryview:
        """Hand the node's answer to websockets. Return what came behind it, the first frames."""
        handshake = self._handshake
        assert handshake is not None
        before = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        cut = len(self._head) if end < 0 else max(end + 4, before)
        handshake.receive_data(self._head[before:cut])
        if handshake.state is OPEN:
            frames = self._head[cut:]
            self._handshake, self._head, self._open = None, b"", True
            self._note_alive()
            if not self.opened.done():
                self.opened.set_result(None)
            return memoryview(frames)
        if cut < len(self._head):
            handshake.receive_data(self._head[cut:])
        self._write_handshake(handshake)
        if handshake.close_expected() and self._grace is None and self._transport is not None:
            # The node is to close the socket now; it gets a moment for it.
            self._grace = self._loop.call_later(self._timings.close_grace, self._transport.abort)
        return memoryview(b"")

    # -- messages ----------------------------------------------------------------------------------------------

    def _work(self, data: memoryview, *, owned: bool = False, last: bool = False) -> None:
        """Hand on the messages that ``data`` holds, as many as one turn of the loop may take.

        A node's flood of tiny or costly messages would keep every other session waiting otherwise.

        Args:
            owned: ``data`` is no part of the shared buffer.
            last: there are no more turns.
        """
        decoder, receiver = self._decoder, self._receiver
        left, until = MESSAGES_A_TURN, time.perf_counter() + TURN  # the loop's own time stands still within a turn
        try:
            for opcode, payload in decoder.decode(data):
                if opcode == CLOSE:
                    self._close_arrived(payload)
                elif self._closing or receiver is None:
                    # What was on its way when our Close left is of no use any more.
                    if receiver is not None and opcode == BINARY:
                        receiver.late_received(payload)
                elif opcode == BINARY:
                    if receiver.binary_received(payload):
                        left = 0
                elif opcode == TEXT:
                    # One byte more than is looked at: it is told for too long.
                    receiver.text_received(bytes(payload[: MAX_JSON + 1]).decode("utf-8", "replace"))
                elif opcode == PING:
                    self._put(PONG, payload)
                left -= 1
                if left <= 0 or (not left & 7 and time.perf_counter() >= until):
                    if not last:
                        left = 0
                        break
                    left = MESSAGES_A_TURN
        except BrokenProtocol as broken:
            self._break(broken)
        if decoder.used:
            self._note_alive()
        if receiver is not None:
            receiver.batch_received()
        transport = self._transport
        if transport is None or self._broken is not None:
            return
        rest = data[decoder.used :]
        if left <= 0 and rest:
            self._waiting = rest if owned else memoryview(bytes(rest))
            if not owned and not transport.is_closing():
                transport.pause_reading()
            self._loop.call_soon(self._go_on)
            return
        if transport.is_closing():
            return
        if decoder.wanted > len(self._buffer) // 2:
            self._large = memoryview(bytearray(decoder.wanted))
            self._filled = len(rest)
            self._large[: self._filled] = rest
        else:
            self._rest = bytes(rest)
        if owned:
            transport.resume_reading()

    def _go_on(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # `connection_lost` takes what waits
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._work(waiting, owned=True)

    def _close_arrived(self, payload: Buffer) -> None:
        self._close_received = parse_close(payload)
        if self._open:
            self._put(CLOSE, payload)
        self._over()

    def _break(self, broken: BrokenProtocol) -> None:
        """Answer a breach of the protocol with a Close; nothing more is read."""
        if self._broken is None:
            self._broken = broken
            self._put(CLOSE, close_payload(broken.code, str(broken)))
            self._over()

    def _over(self) -> None:
        """Both sides have said their last: the node is to close the socket, and gets a moment for it."""
        self._open, self._closing = False, True
        self.flush()
        if self._grace is None and self._transport is not None:
            self._grace = self._loop.call_later(self._timings.close_grace, self._transport.abort)

    def send(self, message: str | Buffer) -> None:
        """Send a text (str) or binary frame; after the end, do nothing. It leaves in this turn of the loop."""
        if self._open:
            if isinstance(message, str):
                self._put(TEXT, message.encode())
            else:
                self._put(BINARY, message)

    def _put(self, opcode: int, payload: Buffer) -> None:
        if self._open:
            header, masked = self._encoder.encode(opcode, payload)
            self._pending.append(header)
            self._pending.append(masked)
            self._pending_size += len(header) + len(masked)
            if self._pending_size >= FLUSH_AT:
                self.flush()
            elif not self._flush_due:
                # Many small messages of one turn of the loop share a TLS record and a system call.
                self._flush_due = True
                self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Hand all that was sent to the transport now."""
        pending, transport = self._pending, self._transport
        if not pending or transport is None:
            return
        data = b"".join(pending)
        pending.clear()
        self._pending_size = 0
        if transport.is_closing():
            return  # of no use any more; uvloop raises where it is asked to send
        self._written += len(data)
        transport.write(data)
        if self.write_blocked and transport.get_write_buffer_size() > WRITE_LIMIT:
            self.abort(ConnectionError("node does not read what it is sent"))

    # -- flow, liveness, end -----------------------------------------------------------------------------------

    def takes(self, size: int) -> bool:
        """Say whether a message of ``size`` bytes may be sent now.

        While targets wait for the socket, small messages may still go, up to `EXPRESS` bytes of them: who sends little
        need not wait for those who send much.
        """
        if not self.write_blocked:
            return True
        if size > EXPRESS_MESSAGE or size > self.express_left:
            return False
        self.express_left -= size
        return True

    def check(self) -> None:
        """Ping when it is time, and give a dead node up. Call it about once a second."""
        if self._transport is None or not self._open:
            return
        now = self._loop.time()
        problem = self._liveness.problem(now, self._written, self._transport.get_write_buffer_size())
        if problem:
            self.abort(TimeoutError(problem))
        elif self._liveness.is_due(now):
            self.ping()

    @property
    def heard_at(self) -> float:
        """When something came from the node last, by the loop's clock."""
        return self._liveness.heard_at

    def ping(self) -> None:
        """Have the node say something."""
        self._liveness.asked_at = self._loop.time()
        self._put(PING, b"")

    def disown(self) -> None:
        """Drop the connection, and tell the receiver nothing of it: it never had it."""
        self._receiver = None
        self.abort(ConnectionAbortedError())

    def abort(self, error: Exception) -> None:
        """Drop the connection at once."""
        self._failure = error
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int = 1000, reason: str = "", timeout: float | None = None) -> None:
        """Close with a WebSocket Close and wait for the node's, at most ``timeout`` seconds; then abort.

        Args:
            timeout: None for `Timings.close_timeout`.
        """
        self._closing = True
        if self._open:
            self._put(CLOSE, close_payload(code, reason))
            self._open = False
            self.flush()
        try:
            async with asyncio.timeout(self._timings.close_timeout if timeout is None else timeout):
                await asyncio.shield(self.closed)
        except TimeoutError:
            pass
        finally:
            if self._transport is not None:
                self._transport.abort()
