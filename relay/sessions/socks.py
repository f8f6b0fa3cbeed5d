"""The SOCKS5 listener through which local programs leave by the node (RFC 1928; docs/protocol.md, "Outbound (SOCKS5)").

No authentication, CONNECT only: every program that reaches the listener may use it. So it stays on loopback, unless
the relay's operator says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from relay.config import Claims
from relay.config.addresses import is_loopback
from relay.config.targets import parse_target
from relay.errors import InvalidValue
from relay.logs import get_logger
from relay.protocol.messages import Reason
from relay.protocol.socks5 import (
    MAX_REQUEST,
    NotSocks,
    Reply,
    RequestRefused,
    greeting_reply,
    parse_greeting,
    parse_request,
)
from relay.protocol.socks5 import reply as socks_reply
from relay.protocol.stream import StreamState
from relay.sessions.streams import Stream, StreamHost
from relay.sessions.tcp_stream import TcpStream
from relay.timings import Timings

BEYOND_LOOPBACK_REMEDY: Final = (
    "use 127.0.0.1:PORT, or let the relay listen elsewhere (ALLOW_SOCKS5_BEYOND_LOOPBACK of runrelay, "
    "Relay(socks5_beyond_loopback=True) of a program)"
)

_log = get_logger("relay.sessions.socks")


class OutboundHost(StreamHost, Protocol):
    """The session, as programs that connect out through it see it.

    Attributes:
        claims: say whether the node is to let them.
    """

    claims: Claims

    def over_limit(self, hostname: str) -> bool:
        """Say whether one more stream would be too many for a limit; if so, count it and tell of it."""

    def open_outbound(self, target_addr: str, context: Stream) -> StreamState:
        """Ask the node to dial; ``context`` is told ``opened`` or ``failed``."""

    def outbound_connected(self, stream: Stream) -> None:
        """Tell of a local program that has its outbound stream."""


FindHost = Callable[[], OutboundHost | None]
"""Returns a session that is up, or None."""


class SocksServer:
    """The listener of one backend.

    Args:
        address: ``host:port`` to listen on.
        beyond_loopback: listen on any address, not on loopback alone.
    """

    def __init__(
        self, address: str, find_host: FindHost, beyond_loopback: bool = False, timings: Timings = Timings()
    ) -> None:
        self.address = address
        self._find_host = find_host
        self._timings = timings
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
                    lambda: SocksConnection(self._find_host, self._timings), target.host, target.port
                )
            except OSError as error:
                # Another backend may be about to let go of the address: the same edit can move it.
                if not told:
                    _log.error(
                        f"SOCKS5 listener not opened: {error}",
                        address=self.address,
                        retry=self._timings.socks_listen_retry,
                    )
                told = True
                await asyncio.sleep(self._timings.socks_listen_retry)
            else:
                _log.info("SOCKS5 listener open", address=self.address)
                if exposed:
                    _log.warning(
                        "SOCKS5 listener is beyond loopback: what reaches it may connect out through the node",
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

    def __init__(self, find_host: FindHost, timings: Timings) -> None:
        self._find_host = find_host
        self._timings = timings
        self._buffer = b""
        self._greeted = False
        self._outbound: Outbound | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._timings.socks_greeting, transport.abort)

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
        try:
            parsed = parse_greeting(self._buffer)
        except NotSocks:
            self._drop()
            return
        if parsed is None:
            return
        accepted, used = parsed
        self._buffer = self._buffer[used:]
        self._write(greeting_reply(accepted))
        if accepted:
            self._greeted = True
        else:
            self._drop()

    def _request(self) -> None:
        try:
            parsed = parse_request(self._buffer)
        except RequestRefused as refusal:
            self.refuse(refusal.reply)
            return
        if parsed is None:
            if len(self._buffer) >= MAX_REQUEST:
                self._drop()
            return
        target_addr, used = parsed
        self._buffer = self._buffer[used:]
        self._stop_timer()
        host = self._find_host()
        if host is None:
            self.refuse(Reply.FAILURE)
        elif not host.claims.outbound_allowed:
            self.refuse(Reply.NOT_ALLOWED)
        elif host.over_limit(target_addr):
            self.refuse(Reply.FAILURE)
        else:
            self._outbound = Outbound(host, self, target_addr)

    def succeed(self, stream: TcpStream) -> None:
        """The node has dialled: from now on the connection is the stream's."""
        transport = self._transport
        assert transport is not None
        self._outbound = None
        self._write(socks_reply(Reply.SUCCEEDED))
        transport.set_protocol(stream)
        transport.resume_reading()  # first: the stream pauses it again where the node takes no data
        stream.connection_made(transport)
        stream.push(self._buffer)

    def refuse(self, reply: int) -> None:
        """Answer with an error and close."""
        self._write(socks_reply(reply))
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


class Outbound(Stream):
    """An outbound stream while the node dials."""

    def __init__(self, host: OutboundHost, connection: SocksConnection, target_addr: str) -> None:
        self._connection: SocksConnection | None = connection
        self._outbound_host = host
        super().__init__(host, host.open_outbound(target_addr, self))
        self.target = target_addr
        host.stream_begun(self)  # counted from here on: many could ask before the first is connected
        self._timer = asyncio.get_running_loop().call_later(host.timings.socks_result, self._timed_out)

    def opened(self, state: StreamState) -> None:
        """The node has dialled."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is None:
            self.end(Reason.NORMAL)
            return
        self.host.stream_gone(self)
        stream = TcpStream(self.host, state)
        state.context = stream
        stream.target = self.target
        connection.succeed(stream)
        self._outbound_host.outbound_connected(stream)

    def failed(self, reason: str) -> None:
        """The node did not."""
        self._over(reply_for(reason))

    def give_up(self) -> None:
        """The program left."""
        self._connection = None
        self._timer.cancel()
        self.end(Reason.NORMAL)
        self.host.stream_gone(self)

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
        self.host.stream_gone(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.refuse(reply)


def reply_for(reason: str) -> int:
    """Return what a program is told for the node's words. Of a failed dial a node says no more than that."""
    words = reason.lower()
    if any(word in words for word in ("not allowed", "denied", "disabled")):
        return Reply.NOT_ALLOWED
    return Reply.REFUSED if "dial failed" in words or "refused" in words else Reply.FAILURE
