"""A client's WebSocket at the hub: TLS and RFC 6455 over one socket, and the pump of the session's lane.

The TLS layer is a pair of memory BIOs, so that nothing but the kernel's socket buffer stands between the lane and the
client: a message leaves the lane only when the one before it is in that buffer, as with a blocking writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from relay.devnode.lane import Lane
from relay.protocol.frames import MAX_OUTGOING_MESSAGE

if TYPE_CHECKING:
    from relay.devnode.node import DevNode

_READ_SIZE = 256 * 1024
_MAX_URGENT = 4096
MAX_CLOSE_REASON = 123
"""Bytes of reason that a Close frame holds (RFC 6455 section 5.5)."""


class MessageHandler(Protocol):
    """What a `HubConnection` tells its session."""

    def opened(self) -> None:
        """The WebSocket stands."""

    def text(self, message: str) -> None:
        """A text message came."""

    def binary(self, message: bytes) -> None:
        """A binary message came."""

    def closed(self, *, clean: bool) -> None:
        """The socket is gone; ``clean`` after a Close from the client or when the node itself ended it."""


class HubConnection(asyncio.BufferedProtocol):
    """One socket at the hub."""

    def __init__(
        self, node: DevNode, context: ssl.SSLContext | None, session: Callable[[HubConnection], MessageHandler]
    ) -> None:
        self.lane = Lane(node.options.lane_size)
        """What waits for the client; see `relay.devnode.lane`."""
        self.pongs = 0
        """Answers to our WebSocket pings."""
        self._node = node
        self._handler = session(self)
        self._websocket = ServerProtocol(max_size=MAX_OUTGOING_MESSAGE)
        self._urgent: deque[bytes | str] = deque()
        self._fragments: list[bytes] = []
        self._fragments_are_text = False
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._one_writer = node.options.one_writer and node.options.attested
        self._round: set[bytes] = set()
        self._offered = False
        self._turn: asyncio.Handle | None = None
        self._blocked = False
        self._frozen = False
        self._held = 0
        self._settled = False
        self._ended = False
        self._last_heard = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tls: ssl.SSLObject | None = None
        self._tls_ready = context is None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    # -- what the session does

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return not self._ended and self._websocket.state is State.OPEN

    def send_urgent(self, message: bytes | str) -> None:
        """Send a message past the lane: challenges (text), grants, pongs, outbound results."""
        self._urgent.append(message)
        if len(self._urgent) > _MAX_URGENT:
            self.abort()
        else:
            self.pump()

    def offer(self, message: bytes, producer: bytes) -> bool:
        """Put a message of ``producer`` (a stream id) into the lane; False when it was full and the message is lost.

        With the option ``one_writer``: in a real node every stream has a reader and the lane one writer, which run side
        by side. Here the writer has a turn when a producer comes round again, so many producers fill the lane.
        """
        if producer in self._round:
            self._round.clear()
            self._write_one()
        if not self.lane.offer(message):
            return False
        if self._one_writer:
            self._round.add(producer)
            self._offered = True
        self.pump()
        return True

    def pump(self) -> None:
        """Move messages to the socket for as long as it takes them; with one writer those of the lane turn by turn."""
        while (self._urgent or not self._one_writer) and self._write_one():
            pass
        if self._one_writer:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if len(self.lane) and self._turn is None and not self._blocked and not self._frozen and self.is_open:
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Write one message of the lane, unless its producers have moved it on since the last time."""
        self._turn = None
        if not self._offered or len(self.lane) == 1:
            self._round.clear()
            self._write_one()
        self._offered = False
        self._schedule_turn()

    def _write_one(self) -> bool:
        """Move one message to the socket, an urgent one first; False when there is none or the socket is full."""
        if self._blocked or self._frozen or not self.is_open:
            return False
        message = self._urgent.popleft() if self._urgent else self.lane.take()
        if message is None:
            return False
        if isinstance(message, str):
            self._websocket.send_text(message.encode())
        else:
            self._websocket.send_binary(message)
        self._flush()
        return True

    def send_frame(self, frame: Frame) -> None:
        """Send a raw WebSocket frame past everything: for misbehaviour."""
        if self.is_open:
            self._websocket.send_frame(frame)
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """Send Close and drop the socket at once; a reason that does not fit drops it without a Close."""
        if self._ended:
            return
        if len(reason.encode()) > MAX_CLOSE_REASON:
            self.abort()
            return
        with contextlib.suppress(InvalidState):
            self._websocket.send_close(code, reason)
        self._flush()
        self._end()

    def abort(self, *, noticed: bool = True) -> None:
        """Drop the socket without a Close: the client sees 1006.

        With ``noticed`` False the node acts as if it had not been told: the session stays in the pool for a while.
        """
        self._settled = self._settled or noticed
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        """Read nothing more until a matching `release`: a user of the token dialect is slow."""
        self._held += 1
        self._update_reading()

    def release(self) -> None:
        """See `hold`."""
        self._held -= 1
        self._update_reading()

    def freeze(self) -> None:
        """Hang: read nothing, send nothing, answer no ping, keep the socket."""
        self._frozen = True
        self._update_reading()

    def thaw(self) -> None:
        """End `freeze`."""
        self._frozen = False
        self._last_heard = self._loop.time()
        self._update_reading()
        self.pump()

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=0)
        self._node.hub_connections.add(self)
        self._set_timer("silence", self._node.options.silence_limit, self._check_silence)
        if self._node.frozen:
            self.freeze()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._last_heard = self._loop.time()
        data = self._buffer[:nbytes]
        if self._tls is None:
            self._receive(bytes(data))
            return
        self._incoming.write(data)
        try:
            if not self._tls_ready:
                self._tls.do_handshake()
                self._tls_ready = True
            chunks = []
            while chunk := self._tls.read(_READ_SIZE):
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._write_tls()
            self._end()
            return
        self._write_tls()
        if self._tls_ready and chunks:
            self._receive(b"".join(chunks))

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._blocked = True
        self._set_timer("write", self._node.options.write_timeout, self.abort)

    def resume_writing(self) -> None:
        self._blocked = False
        self._cancel_timer("write")
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._node.hub_connections.discard(self)
        self._ended = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._handler.closed(clean=self._settled)
        self._node.changed()

    # -- inside

    def _receive(self, data: bytes) -> None:
        if self._ended:
            return
        websocket = self._websocket
        websocket.receive_data(data)
        for event in websocket.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame):
                self._take_frame(event)
            if not self._reads_on():
                return
        self._flush()

    def _reads_on(self) -> bool:
        return not self._ended

    def _answer(self, request: Request) -> None:
        delay = self._node.faults.accept_delay
        if delay > 0:
            self._set_timer("accept", delay, lambda: self._accept(request))
        else:
            self._accept(request)

    def _accept(self, request: Request) -> None:
        if request.path.partition("?")[0] != "/connect":
            response = self._websocket.reject(404, "Nexus sessions are opened at /connect.\n")
        else:
            response = self._websocket.accept(request)
        self._websocket.send_response(response)
        self._flush()
        if self._websocket.state is State.OPEN:
            self._set_timer("ping", self._node.options.ping_interval, self._ping)
            self._handler.opened()

    def _take_frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.BINARY if frame.fin:
                self._handler.binary(bytes(frame.data))
            case Opcode.TEXT | Opcode.BINARY:
                self._fragments = [bytes(frame.data)]
                self._fragments_are_text = frame.opcode is Opcode.TEXT
                self._finish_message(frame)
            case Opcode.CONT:
                self._fragments.append(bytes(frame.data))
                self._finish_message(frame)
            case Opcode.PONG:
                self.pongs += 1
                self._node.changed()
            case Opcode.CLOSE:
                self._settled = True

    def _finish_message(self, frame: Frame) -> None:
        if not frame.fin:
            return
        message = b"".join(self._fragments)
        self._fragments = []
        if not self._fragments_are_text:
            self._handler.binary(message)
            return
        try:
            text = message.decode()
        except UnicodeDecodeError:
            self.close(1007, "text is not UTF-8")
        else:
            self._handler.text(text)

    def _flush(self) -> None:
        """Write what the WebSocket has to say; its end of stream ends the socket."""
        for chunk in self._websocket.data_to_send():
            if not chunk:
                self._end()
                return
            if self._tls is None:
                self._write(chunk)
            else:
                view = memoryview(chunk)
                while view:
                    view = view[self._tls.write(view) :]
                self._write_tls()

    def _write_tls(self) -> None:
        pending = self._outgoing.read()
        if pending:
            self._write(pending)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self) -> None:
        """Close the socket after what was written."""
        if self._ended:
            return
        self._ended = self._settled = True
        if self._tls is not None and self._tls_ready:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # writes close_notify, then wants the client's, which this does not wait for
            self._write_tls()
        if self._transport is not None:
            self._transport.close()
            self._set_timer("end", self._node.options.write_timeout, self._transport.abort)

    def _update_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self._frozen:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _ping(self) -> None:
        if self.is_open and not self._frozen:
            self._websocket.send_ping(b"")
            self._flush()
        self._set_timer("ping", self._node.options.ping_interval, self._ping)

    def _check_silence(self) -> None:
        if self._held or self._frozen:
            self._last_heard = self._loop.time()
        left = self._last_heard + self._node.options.silence_limit - self._loop.time()
        if left <= 0:
            self.abort()
        else:
            self._set_timer("silence", left, self._check_silence)

    def _set_timer(self, name: str, delay: float, action: Callable[[], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = self._loop.call_later(delay, action)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
