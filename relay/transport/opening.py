"""Opening the WebSocket to a node: TCP, TLS, the handshake, and in words what went wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.uri import parse_uri

from relay.config import NodeConfig
from relay.network.names import UNKNOWN_NAME, Address, Names
from relay.network.racing import open_tcp
from relay.protocol.endings import Ending
from relay.protocol.events import EndKind
from relay.timings import Timings
from relay.transport.connection import READ_BUFFER, NodeConnection, Receiver
from relay.transport.trust import Trust


class ConnectFailed(Exception):
    """No WebSocket to the node could be opened; ``ending`` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class NodeDialer:
    """Opens WebSockets to nodes.

    Args:
        names: what knows the addresses of all nodes' names; None for one of its own, which asks the event loop.
    """

    def __init__(self, names: Names | None = None, timings: Timings = Timings()) -> None:
        self._timings = timings
        self._names = names or Names(timings=timings)
        self._trust = Trust()

    async def open(self, node: NodeConfig, receiver: Receiver, buffer: memoryview | None = None) -> NodeConnection:
        """Open the WebSocket to a node.

        Args:
            buffer: see `NodeConnection`; None for one of its own.

        Raises:
            ConnectFailed: it could not be opened within `Timings.node_connect` seconds; the ending says why.
        """
        timings, loop = self._timings, asyncio.get_running_loop()
        try:
            uri = parse_uri(node.address)
        except InvalidURI:
            raise ConnectFailed(Ending(EndKind.LOST, f"{node.address!r} is not a ws:// or wss:// address")) from None
        connection = NodeConnection(
            node.address, receiver, memoryview(bytearray(READ_BUFFER)) if buffer is None else buffer, timings
        )
        address: Address | None = None
        context: ssl.SSLContext | None = None
        try:
            async with asyncio.timeout(timings.node_connect):
                if uri.secure:
                    context = await self._trust.context(node.ca_pem)
                deadline = loop.time() + timings.node_connect
                sock, address = await open_tcp(self._names, uri.host, uri.port, deadline, timings)
                # From here on the socket is the loop's, which closes it where the wait for the transport is cancelled.
                await loop.create_connection(
                    lambda: connection, sock=sock, ssl=context, server_hostname=uri.host if context else None
                )
                await connection.opened
        except BaseException as error:
            connection.disown()
            if isinstance(error, Exception):
                if isinstance(error, ssl.SSLCertVerificationError) and context is not None:
                    self._trust.failed(context)
                if address is not None:
                    # Something answers there that serves no session: of several addresses another comes first now.
                    self._names.defer(uri.host, address)
                elif isinstance(error, TimeoutError) and uri.secure and context is None:
                    error = TimeoutError("the system's CA certificates could not be read")
                elif isinstance(error, TimeoutError) and self._names.known(uri.host) is None:
                    error = TimeoutError(f"the resolver gave no answer for the node's name {uri.host}")
                raise ConnectFailed(_explain(error, f"{uri.host}:{uri.port}", timings)) from None
            raise
        return connection


_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_NAME: Final = frozenset({62, 64})
"""What is wrong with a certificate: OpenSSL's X509_V_ERR_* (x509_vfy.h), which the ssl module has no names for."""


def _explain_certificate(error: ssl.SSLCertVerificationError, where: str) -> str:
    match error.verify_code:
        case code if code == _EXPIRED:
            problem = "has expired: renew it at the node, or set this machine's clock if that is wrong"
        case code if code == _NOT_YET_VALID:
            problem = "is not valid yet: check the clocks of this machine and of the node"
        case code if code in _OTHER_NAME:
            problem = (
                f"is for another name ({error.verify_message}): correct the node's address, "
                "or give the node a certificate with that name"
            )
        case _:
            problem = (
                f"is not trusted ({error.verify_message}): keep its CA certificate with the node, or set SSL_CERT_FILE"
            )
    return f"the node's certificate at {where} {problem}"


def _explain(error: Exception, where: str, timings: Timings) -> Ending:
    match error:
        case TimeoutError(errno=None) if str(error):
            message = f"{error} within {timings.node_connect:.0f} s"
        case TimeoutError():
            message = f"no answer from the node at {where} within {timings.node_connect:.0f} s"
        case ssl.SSLCertVerificationError():
            message = _explain_certificate(error, where)
        case ssl.SSLError():
            message = f"TLS with the node at {where} failed: {error.reason or error}"
        case socket.gaierror() if error.errno in UNKNOWN_NAME:
            message = f"the node's name does not resolve: {where}"
        case socket.gaierror():
            message = f"the resolver fails for the node's name, {where}: {error.strerror or error}"
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
