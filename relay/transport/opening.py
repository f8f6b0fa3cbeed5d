"""Opening the WebSocket to a node: TCP, TLS, the handshake, and in words what went wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl

from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.uri import parse_uri

from relay.config import NodeConfig
from relay.protocol.endings import Ending
from relay.protocol.events import EndKind
from relay.timings import Timings
from relay.transport.connection import READ_BUFFER, NodeConnection, Receiver


class ConnectFailed(Exception):
    """No WebSocket to the node could be opened; ``ending`` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


async def open_connection(
    node: NodeConfig, receiver: Receiver, buffer: memoryview | None = None, timings: Timings = Timings()
) -> NodeConnection:
    """Open the WebSocket to a node.

    Args:
        buffer: see `NodeConnection`; None for one of its own.

    Raises:
        ConnectFailed: it could not be opened within `Timings.node_connect` seconds; the ending says why.
    """
    try:
        uri = parse_uri(node.address)
    except InvalidURI:
        raise ConnectFailed(Ending(EndKind.LOST, f"{node.address!r} is not a ws:// or wss:// address")) from None
    connection = NodeConnection(
        node.address, receiver, memoryview(bytearray(READ_BUFFER)) if buffer is None else buffer, timings
    )
    try:
        async with asyncio.timeout(timings.node_connect):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                uri.host,
                uri.port,
                ssl=tls_context(node.ca_pem) if uri.secure else None,
                server_hostname=uri.host if uri.secure else None,
            )
            await connection.opened
    except BaseException as error:
        connection.disown()
        if isinstance(error, Exception):
            raise ConnectFailed(_explain(error, f"{uri.host}:{uri.port}", timings)) from None
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


def _explain(error: Exception, where: str, timings: Timings) -> Ending:
    match error:
        case TimeoutError():
            message = f"no answer from the node at {where} within {timings.node_connect:.0f} s"
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
            message = f"cannot reach the node at {where}: {error.strerror or error}"
        case _:
            message = f"{where} does not speak WebSocket: {error}"
    return Ending(EndKind.LOST, message)
