"""A WebSocket to a node: websockets' sans-I/O `ClientProtocol` on an asyncio transport (RFC 6455).

No tasks and no queues: what arrives is handed on in the same call, what is sent goes straight to the transport.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from relay.config import NodeConfig
from relay.protocol.endings import Ending
from relay.protocol.events import EndKind
from relay.protocol.frames import MAX_INCOMING_MESSAGE

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP, TLS and the WebSocket handshake together."""

PING_INTERVAL: Final = 5.0
"""Seconds between pings (PROTOCOL.md, "Session")."""

DEAD_AFTER: Final = 10.0
"""Seconds without any frame, or without progress of a write, after which the node is given up."""

MAX_FRAGMENTS: Final = 4096
"""Fragments of one message; real nodes do not fragment, and every one costs time that other sessions wait for."""

WRITE_HIGH_WATER: Final = 256 * 1024
"""Bytes that may wait for the socket before targets are no longer read."""

WRITE_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait at all: a node that asks for answers and never reads them is given up."""

CLOSE_GRACE: Final = 1.0
"""Seconds that a node has to close the socket when the WebSocket is over."""

# websockets logs whole frames at DEBUG, tokens among them: this logger never goes that low.
_quiet = logging.getLogger("relay.websocket")
_quiet.setLevel(logging.WARNING)


class ConnectFailed(Exception):
    """No WebSocket to the node could be opened; ``ending`` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class Receiver(Protocol):
    """Who is told what happens on a connection."""

    def text_received(self, text: str) -> None: ...
    def binary_received(self, message: bytes | bytearray | memoryview) -> None: ...
    def batch_received(self) -> None:
        """All that one read of the socket brought has been handed on."""

    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...
    def connection_ended(self, code: int, reason: str, error: Exception | None) -> None:
        """Called once, as the last; ``code`` 1006 where the node sent no Close."""


class NodeConnection(asyncio.Protocol):
    """The asyncio protocol under one session. Made by `open_connection`."""

    def __init__(self, address: str, receiver: Receiver) -> None:
        self._websocket = ClientProtocol(parse_uri(address), max_size=MAX_INCOMING_MESSAGE, logger=_quiet)
        self._receiver: Receiver | None = receiver
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._fragments_text = False
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._failure: Exception | None = None
        self._last_received = self._last_ping = self._last_check = self._loop.time()
        self._written = 0
        self._progress = (0, self._last_received)
        self.write_blocked = False
        self._closing = False
        self._grace: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        if self._failure is not None:
            # Given up meanwhile. uvloop goes on with a TLS handshake whose wait was cancelled as it began.
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER, low=WRITE_HIGH_WATER // 4)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._websocket.send_request(self._websocket.connect())
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        self._websocket.receive_data(data)
        # Answers (pong, the echo of a Close) leave before what they came with is worked on.
        self.flush()
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._frame_received(event)
            elif isinstance(event, Response) and self._websocket.handshake_exc is None and not self.opened.done():
                self.opened.set_result(None)
        nodes_turn = self._websocket.close_expected() and (self._websocket.close_rcvd is not None or not self._closing)
        if nodes_turn and self._grace is None and self._transport is not None:
            # The node is to close the socket now; it gets a moment for it.
            self._grace = self._loop.call_later(CLOSE_GRACE, self._transport.abort)
        if self._receiver is not None:
            self._receiver.batch_received()

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._websocket.receive_eof()
        error = self._failure or self._websocket.handshake_exc or exc
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionResetError("node closed the connection"))
            self.opened.exception()  # it may be that nobody waits any more
            self._receiver = None  # `open_connection` tells of it
        if not self.closed.done():
            self.closed.set_result(None)
        if self._grace is not None:
            self._grace.cancel()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        received, sent = self._websocket.close_rcvd, self._websocket.close_sent
        if self._failure is not None:
            receiver.connection_ended(1006, "", self._failure)
        elif received is not None:
            receiver.connection_ended(received.code, received.reason, None)
        elif sent is not None and sent.code != 1000:
            # We failed it: a message too big, bytes that are no frame.
            receiver.connection_ended(1006, "", ConnectionError(f"node broke the protocol: {sent.reason or sent.code}"))
        else:
            receiver.connection_ended(1006, "", error)

    def pause_writing(self) -> None:
        self.write_blocked = True
        if self._receiver is not None:
            self._receiver.writing_paused()

    def resume_writing(self) -> None:
        self.write_blocked = False
        if self._receiver is not None:
            self._receiver.writing_resumed()

    # -- messages ----------------------------------------------------------------------------------------------

    def _frame_received(self, frame: Frame) -> None:
        if self._closing:
            return  # what was on its way when our Close left is nobody's any more
        opcode = frame.opcode
        if opcode is Opcode.BINARY and frame.fin:
            self._deliver(frame.data, text=False)
        elif opcode in (Opcode.TEXT, Opcode.BINARY):
            if frame.fin:
                self._deliver(frame.data, text=True)
            else:
                self._fragments, self._fragments_text = [frame.data], opcode is Opcode.TEXT
        elif opcode is Opcode.CONT:
            # Empty fragments would add up without ever reaching the size limit.
            self._fragments.append(frame.data)
            if len(self._fragments) > MAX_FRAGMENTS:
                self._closing, self._fragments = True, []
                self.abort(ConnectionError(f"node sent a message in more than {MAX_FRAGMENTS} fragments"))
                return
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), []
                self._deliver(whole, text=self._fragments_text)

    def _deliver(self, message: bytes | bytearray | memoryview, *, text: bool) -> None:
        if self._receiver is None:
            return
        if text:
            self._receiver.text_received(bytes(message).decode("utf-8", "replace"))
        else:
            self._receiver.binary_received(message)

    def send(self, message: str | bytes) -> None:
        """Send a text (str) or binary (bytes) frame; after the end, do nothing."""
        if self._websocket.state is not OPEN:
            return
        if isinstance(message, str):
            self._websocket.send_text(message.encode())
        else:
            self._websocket.send_binary(message)

    def flush(self) -> None:
        """Hand all that was sent to the transport."""
        transport = self._transport
        if transport is None:
            return
        if transport.is_closing():
            self._websocket.data_to_send()  # nobody's any more; uvloop raises where it is asked to send or to end
            return
        for data in self._websocket.data_to_send():
            if data:
                self._written += len(data)
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                # TLS has no half-close.
                transport.close()
        if self.write_blocked and transport.get_write_buffer_size() > WRITE_LIMIT:
            self.abort(ConnectionError("node does not read what it is sent"))

    # -- flow, liveness, end -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Ping when it is time, and give a dead node up. Call it about once a second."""
        now = self._loop.time()
        if self._transport is None or self._websocket.state is not OPEN:
            return
        if now - self._last_check > DEAD_AFTER / 2:
            # This process slept (a laptop's lid, a stopped container): what came meanwhile is still to be read.
            self._last_received = now
            self._progress = (self._progress[0], now)
        self._last_check = now
        taken = self._written - self._transport.get_write_buffer_size()
        if taken != self._progress[0] or taken == self._written:
            self._progress = (taken, now)
        elif now - self._progress[1] >= DEAD_AFTER:
            self.abort(TimeoutError(f"node took nothing of a write for {DEAD_AFTER:.0f} s"))
            return
        if now - self._last_received >= DEAD_AFTER:
            self.abort(TimeoutError(f"no frame and no pong from the node for {DEAD_AFTER:.0f} s"))
        elif now - self._last_ping >= PING_INTERVAL:
            self._last_ping = now
            self._websocket.send_ping(b"")
            self.flush()

    def abort(self, error: Exception) -> None:
        """Drop the connection at once."""
        self._failure = error
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int = 1000, reason: str = "", timeout: float = 3.0) -> None:
        """Close with a WebSocket Close and wait for the node's, at most ``timeout`` seconds; then abort."""
        self._closing = True
        if self._websocket.state is OPEN:
            self._websocket.send_close(code, reason)
            self.flush()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self.closed)
        except TimeoutError:
            pass
        finally:
            if self._transport is not None:
                self._transport.abort()


async def open_connection(node: NodeConfig, receiver: Receiver) -> NodeConnection:
    """Open the WebSocket to a node.

    Raises:
        ConnectFailed: it could not be opened within `CONNECT_TIMEOUT` seconds; the ending says why.
    """
    try:
        uri = parse_uri(node.address)
    except InvalidURI:
        raise ConnectFailed(Ending(EndKind.LOST, f"{node.address!r} is not a ws:// or wss:// address")) from None
    connection = NodeConnection(node.address, receiver)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                uri.host,
                uri.port,
                ssl=tls_context(node.ca_pem) if uri.secure else None,
                server_hostname=uri.host if uri.secure else None,
            )
            await connection.opened
    except BaseException as error:
        connection._receiver = None
        connection.abort(ConnectionAbortedError())
        if isinstance(error, Exception):
            raise ConnectFailed(_explain(error, f"{uri.host}:{uri.port}")) from None
        raise
    return connection


_contexts: dict[str | None, ssl.SSLContext] = {}


def tls_context(ca_pem: str | None) -> ssl.SSLContext:
    """Return the context that verifies a node: against ``ca_pem``, else the system's store or ``SSL_CERT_FILE``.

    Raises:
        ssl.SSLError: ``ca_pem`` holds no certificate.
    """
    context = _contexts.get(ca_pem)
    if context is None:
        context = ssl.create_default_context(cadata=ca_pem or None)
        if len(_contexts) >= 256:
            _contexts.clear()
        _contexts[ca_pem] = context
    return context


def _explain(error: Exception, where: str) -> Ending:
    match error:
        case TimeoutError():
            message = f"no answer from the node at {where} within {CONNECT_TIMEOUT:.0f} s"
        case ssl.SSLCertVerificationError():
            message = (
                f"the node's certificate at {where} is not trusted ({error.verify_message}): "
                "keep its CA certificate with the node, or set SSL_CERT_FILE"
            )
        case ssl.SSLError():
            message = f"TLS with the node at {where} failed: {error.reason or error}"
        case socket.gaierror():
            message = f"the node's name does not resolve: {where}"
        case ConnectionRefusedError():
            message = f"nothing listens at the node's address {where}"
        case InvalidStatus():
            status = error.response.status_code
            if status == 429:
                return Ending(EndKind.RATE_LIMITED, f"node at {where} limits the rate of sessions (HTTP 429)")
            message = f"{where} answered HTTP {status} instead of opening a WebSocket: check the address and its path"
        case OSError():
            message = f"can not reach the node at {where}: {error.strerror or error}"
        case _:
            message = f"{where} does not speak WebSocket: {error}"
    return Ending(EndKind.LOST, message)
