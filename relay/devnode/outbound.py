"""``outbound_connect``: the node dials for the client (docs/protocol.md, "Outbound (SOCKS5)")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relay.devnode.tcp_stream import NodeTcpStream
from relay.protocol.messages import OutboundConnect

if TYPE_CHECKING:
    from relay.devnode.session import NodeSession


class OutboundRefused(Exception):
    """Why ``outbound_result`` says no."""


class OutboundStream(NodeTcpStream):
    """A connection that the node opened for the client."""

    def __init__(self, session: NodeSession, stream_id: bytes) -> None:
        super().__init__(session.node, stream_id)
        self.session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Nothing may overtake outbound_result.
        self._reading = False
        assert self.transport is not None
        self.transport.pause_reading()


def check_outbound(session: NodeSession, request: OutboundConnect) -> tuple[str, int]:
    """Return host and port of an allowed request.

    Raises:
        OutboundRefused: the claims or the address do not allow it.
    """
    host, _, port_text = request.target_addr.rpartition(":")
    if not host or not (port_text.isascii() and port_text.isdigit()) or not 1 <= int(port_text) <= 65535:
        raise OutboundRefused(f"invalid target address {request.target_addr}")
    port = int(port_text)
    if not session.claims.outbound_allowed:
        raise OutboundRefused("outbound not allowed for this backend")
    if session.claims.allowed_outbound_ports and port not in session.claims.allowed_outbound_ports:
        raise OutboundRefused(f"outbound port {port} not allowed for this backend")
    return host.strip("[]"), port


async def dial(session: NodeSession, request: OutboundConnect) -> OutboundStream:
    """Open the connection that ``request`` asks for; it reads nothing until its window is looked at.

    Raises:
        OutboundRefused: it is not allowed or cannot be opened.
    """
    host, port = check_outbound(session, request)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(session.node.options.dial_timeout):
            _, stream = await loop.create_connection(lambda: OutboundStream(session, request.stream_id), host, port)
    except OSError:
        raise OutboundRefused("dial failed") from None
    return stream
