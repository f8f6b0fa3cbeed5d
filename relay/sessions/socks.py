"""The SOCKS5 listener through which local programs leave by the node (RFC 1928; docs/protocol.md, "Outbound (SOCKS5)").

No authentication, CONNECT only: whoever reaches the listener may use it. So it stays on loopback, unless the relay's
operator says otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from relay.config.addresses import is_loopback
from relay.config.targets import parse_target
from relay.errors import InvalidValue
from relay.logs import get_logger
from relay.protocol.messages import MAX_TARGET_ADDRESS, Reason
from relay.protocol.session import StreamState
from relay.sessions.streams import Stream, TcpStream

if TYPE_CHECKING:
    from relay.sessions.session import Session

RESULT_TIMEOUT: Final = 15.0
"""Seconds for the node's ``outbound_result``."""

GREETING_TIMEOUT: Final = 10.0
"""Seconds for a program to say what it wants."""

RETRY_LISTEN: Final = 2.0
"""Seconds between attempts to listen on an address that is taken."""

MAX_REQUEST: Final = 4 + 1 + 255 + 2
"""Bytes of the longest SOCKS request."""

BEYOND_LOOPBACK_REMEDY: Final = (
    "use 127.0.0.1:PORT, or let the relay listen elsewhere (ALLOW_SOCKS5_BEYOND_LOOPBACK of runrelay, "
    "Relay(socks5_beyond_loopback=True) of a program)"
)

VERSION: Final = 5
NO_AUTHENTICATION: Final = 0
NO_METHOD: Final = 0xFF
CONNECT: Final = 1


class Reply:
    """Replies of RFC 1928, section 6."""

    SUCCEEDED: Final = 0
    FAILURE: Final = 1
    NOT_ALLOWED: Final = 2
    REFUSED: Final = 5
    COMMAND_NOT_SUPPORTED: Final = 7
    ADDRESS_NOT_SUPPORTED: Final = 8


_log = get_logger("relay.sessions.socks")


class SocksServer:
    """The listener of one backend.

    Args:
        address: ``host:port`` to listen on.
        session: returns a session that is up, or None.
        beyond_loopback: listen on any address, not on loopback alone.
    """

    def __init__(self, address: str, session: Callable[[], Session | None], beyond_loopback: bool = False) -> None:
        self.address = address
        self._session = session
        self._beyond_loopback = beyond_loopback
        self._server: asyncio.Server | None = None
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            target = parse_target(self.address)
            exposed = target.kind != "tcp" or not is_loopback(target.host)
            if exposed and not self._beyond_loopback:
                raise InvalidValue("SOCKS5 address", self.address, "is not on loopback", BEYOND_LOOPBACK_REMEDY)
        except InvalidValue as error:
            _log.error(f"SOCKS5 listener not opened: {error}", address=self.address)
            return
        loop = asyncio.get_running_loop()
        told = False
        while True:
            try:
                self._server = await loop.create_server(
                    lambda: SocksConnection(self._session), target.host, target.port
                )
            except OSError as error:
                # Another backend may be about to let go of the address: the same edit can move it.
                if not told:
                    _log.error(f"SOCKS5 listener not opened: {error}", address=self.address, retry=RETRY_LISTEN)
                told = True
                await asyncio.sleep(RETRY_LISTEN)
            else:
                _log.info("SOCKS5 listener open", address=self.address)
                if exposed:
                    _log.warning(
                        "SOCKS5 listener is beyond loopback: whoever reaches it may connect out through the node",
                        address=self.address,
                    )
                return

    def close(self) -> None:
        """Take no more connections; those that are being carried go on."""
        self._task.cancel()
        if self._server is not None:
            self._server.close()


class SocksConnection(asyncio.Protocol):
    """One program's connection until the node has dialled; a `TcpStream` takes over then."""

    def __init__(self, session: Callable[[], Session | None]) -> None:
        self._find_session = session
        self._buffer = b""
        self._greeted = False
        self._outbound: Outbound | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._outbound is not None:
            # Bytes for the far end, before it is known to be there.
            assert self._transport is not None
            self._transport.pause_reading()
            return
        if not self._greeted:
            self._greet()
        if self._greeted and self._outbound is None:
            self._request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._transport = None
        if self._outbound is not None:
            self._outbound.give_up()

    def _greet(self) -> None:
        buffer = self._buffer
        if buffer and buffer[0] != VERSION:
            self._drop()
        elif len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            methods, self._buffer = buffer[2 : 2 + buffer[1]], buffer[2 + buffer[1] :]
            if NO_AUTHENTICATION not in methods:
                self._write(bytes((VERSION, NO_METHOD)))
                self._drop()
                return
            self._write(bytes((VERSION, NO_AUTHENTICATION)))
            self._greeted = True

    def _request(self) -> None:
        try:
            parsed = parse_request(self._buffer)
        except Refused as refusal:
            self.refuse(refusal.reply)
            return
        if parsed is None:
            if len(self._buffer) >= MAX_REQUEST:
                self._drop()
            return
        target_addr, used = parsed
        self._buffer = self._buffer[used:]
        self._stop_timer()
        session = self._find_session()
        if session is None:
            self.refuse(Reply.FAILURE)
        elif not session.claims.outbound_allowed:
            self.refuse(Reply.NOT_ALLOWED)
        elif session.over_limit(target_addr):
            self.refuse(Reply.FAILURE)
        else:
            self._outbound = Outbound(session, self, target_addr)

    def succeed(self, stream: TcpStream) -> None:
        """The node has dialled: from now on the connection is the stream's."""
        transport = self._transport
        assert transport is not None
        self._outbound = None
        self._write(_reply(Reply.SUCCEEDED))
        transport.set_protocol(stream)
        transport.resume_reading()  # first: the stream pauses it again where the node takes no data
        stream.connection_made(transport)
        stream.push(self._buffer)

    def refuse(self, reply: int) -> None:
        """Answer with an error and close."""
        self._write(_reply(reply))
        self._drop()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _drop(self) -> None:
        self._outbound = None
        if self._transport is not None:
            self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, reply: int) -> None:
        super().__init__(f"SOCKS5 reply {reply}")
        self.reply = reply


def parse_request(data: bytes) -> tuple[str, int] | None:
    """Return the target (``host:port``) of a SOCKS request and its length, None while it is incomplete.

    Raises:
        Refused: it is not a CONNECT to an address that the node takes.
    """
    if len(data) < 5:
        return None
    version, command, _, kind, first = data[:5]
    if version != VERSION:
        raise Refused(Reply.FAILURE)
    if command != CONNECT:
        raise Refused(Reply.COMMAND_NOT_SUPPORTED)
    if kind == 1:
        start, size = 4, 4
    elif kind == 3:
        start, size = 5, first
    elif kind == 4:
        start, size = 4, 16
    else:
        raise Refused(Reply.ADDRESS_NOT_SUPPORTED)
    end = start + size + 2
    if len(data) < end:
        return None
    address, (port,) = data[start : start + size], struct.unpack("!H", data[end - 2 : end])
    if kind == 3:
        host = address.decode("ascii", "replace")
        if not host or not host.isascii() or not host.isprintable() or ":" in host or " " in host:
            raise Refused(Reply.ADDRESS_NOT_SUPPORTED)
    else:
        host = str(ipaddress.ip_address(address))
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if len(target) > MAX_TARGET_ADDRESS:
        raise Refused(Reply.ADDRESS_NOT_SUPPORTED)
    return target, end


def _reply(code: int) -> bytes:
    return struct.pack("!BBBBIH", VERSION, code, 0, 1, 0, 0)


class Outbound(Stream):
    """An outbound stream while the node dials."""

    def __init__(self, session: Session, connection: SocksConnection, target_addr: str) -> None:
        self._connection: SocksConnection | None = connection
        super().__init__(session, session.open_outbound(target_addr, self))
        self.target = target_addr
        session.stream_begun(self)  # counted from here on: many could ask before the first is connected
        self._timer = asyncio.get_running_loop().call_later(RESULT_TIMEOUT, self._timed_out)

    def opened(self, state: StreamState) -> None:
        """The node has dialled."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is None:
            self.end(Reason.NORMAL)
            return
        self.session.stream_gone(self)
        stream = TcpStream(self.session, state)
        state.context = stream
        stream.target = self.target
        connection.succeed(stream)
        self.session.outbound_connected(stream)

    def failed(self, reason: str) -> None:
        """The node did not."""
        words = reason.lower()
        if "not allowed" in words or "denied" in words:
            reply = Reply.NOT_ALLOWED
        else:
            reply = Reply.REFUSED if "refused" in words else Reply.FAILURE
        self._over(reply)

    def give_up(self) -> None:
        """The program left."""
        self._connection = None
        self._timer.cancel()
        self.end(Reason.NORMAL)
        self.session.stream_gone(self)

    def receive(self, payload: memoryview) -> None:
        """Nothing may come before the result; what does is ignored."""

    def writable(self) -> None:
        """Nothing waits yet."""

    def finish(self) -> None:
        self._over(Reply.FAILURE)

    def abort(self) -> None:
        self._over(Reply.FAILURE)

    def _timed_out(self) -> None:
        self._over(Reply.FAILURE)
        self.end(Reason.TIMEOUT)

    def _over(self, reply: int) -> None:
        self._timer.cancel()
        self.session.stream_gone(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.refuse(reply)
