"""A user's TCP connection to a public port: found by SNI or Host, or by a claimed port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relay.devnode.sniff import NoHostname, sniff
from relay.devnode.tcp_stream import NodeTcpStream
from relay.protocol.frames import MAX_FIRST_PAYLOAD
from relay.protocol.messages import Connect

if TYPE_CHECKING:
    from relay.devnode.node import DevNode


class UserStream(NodeTcpStream):
    """A user; it becomes a stream when it is known where it wants to go.

    Attributes:
        port: the public port as advertised.
        claimed: whether the port belongs whole to the session that claims it, so that there is nothing to look for.
    """

    def __init__(self, node: DevNode, port: int, *, claimed: bool) -> None:
        super().__init__(node)
        self.port = port
        self.claimed = claimed
        self._peeked = bytearray()
        self._peek_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.claimed:
            hostname = f"tcp:{self.port}"
            self._open(hostname, self.node.pool.by_port("tcp", self.port), is_tls=False)
        else:
            self._peek_timer = self._loop.call_later(self.node.options.peek_timeout, self._no_route)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.session is None:
            return self.node.peek_buffer[: MAX_FIRST_PAYLOAD - len(self._peeked)]
        return self.node.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.session is not None:
            super().buffer_updated(nbytes)
            return
        if self.transport is None or self.transport.is_closing():
            return
        self._peeked += self.node.peek_buffer[:nbytes]
        try:
            found = sniff(self._peeked)
        except NoHostname:
            self._no_route()
            return
        if found is None:
            if len(self._peeked) >= MAX_FIRST_PAYLOAD:
                self._no_route()
            return
        if self._open(found.hostname, self.node.pool.by_hostname(found.hostname), is_tls=found.is_tls):
            payload, self._peeked = bytes(self._peeked), bytearray()
            self.forward(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peek_timer is not None:
            self._peek_timer.cancel()
        super().connection_lost(exc)

    def _open(self, hostname: str, session: NodeSession | None, *, is_tls: bool) -> bool:
        assert self.transport is not None
        if session is None:
            self._no_route()
            return False
        if self._peek_timer is not None:
            self._peek_timer.cancel()
        self.session, self.hostname = session, hostname
        opened = session.open(
            self,
            Connect(
                self.stream_id,
                hostname=hostname,
                conn_port=self.port,
                client_ip=address_text(self.transport.get_extra_info("peername")),
                is_tls=is_tls,
            ),
        )
        if not opened:
            session.counters.users_killed += 1
            self.transport.abort()
        return opened

    def _no_route(self) -> None:
        self.node.counts.no_route += 1
        self._close()


def address_text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """Return a socket address as ``client_ip`` has it: with the port, IPv6 in brackets."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if TYPE_CHECKING:
    from relay.devnode.session import NodeSession
