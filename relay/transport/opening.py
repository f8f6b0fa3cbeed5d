"""Opening the WebSocket to a node: TCP, TLS, the handshake, and in words what went wrong."""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from relay.config import NodeConfig
from relay.config.proxies import Proxy, parse_proxy, proxy_for
from relay.errors import InvalidValue
from relay.logs import get_logger
from relay.network.names import UNKNOWN_NAME, Address, Names
from relay.network.racing import open_tcp
from relay.protocol.endings import Ending
from relay.protocol.events import EndKind
from relay.timings import Timings
from relay.transport.connection import READ_BUFFER, NodeConnection
from relay.transport.receiver import Receiver
from relay.transport.trust import Trust
from relay.transport.tunnel import ProxyFailed, open_tunnel

REMEMBERED: Final = 4096
"""Nodes of which is remembered what the log was told of their proxy."""

_log = get_logger("relay.transport.opening")


class ConnectFailed(Exception):
    """No WebSocket to the node could be opened; ``ending`` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class NodeDialer:
    """Opens WebSockets to nodes.

    Args:
        names: what knows the addresses of all nodes' names; None for one of its own, which asks the event loop.
        proxy: address of the proxy that leads to nodes which name none themselves; ``direct`` for none; empty for what
            the environment says.
    """

    def __init__(self, names: Names | None = None, timings: Timings = Timings(), proxy: str = "") -> None:
        self._timings = timings
        self._names = names or Names(timings=timings)
        self._trust = Trust()
        self._proxy = proxy
        self._told: dict[str, str] = {}

    async def open(self, node: NodeConfig, receiver: Receiver, buffer: memoryview | None = None) -> NodeConnection:
        """Open the WebSocket to a node.

        Args:
            buffer: see `NodeConnection`; None for one of its own.

        Raises:
            ConnectFailed: it could not be opened within `Timings.node_connect` seconds; the ending says why.
        """
        timings = self._timings
        try:
            uri = parse_uri(node.address)
        except InvalidURI:
            raise ConnectFailed(Ending(EndKind.LOST, f"{node.shown!r} is not a ws:// or wss:// address")) from None
        connection = NodeConnection(
            node.address, receiver, memoryview(bytearray(READ_BUFFER)) if buffer is None else buffer, timings
        )
        way = _Way(uri.host, uri.port)
        try:
            way.proxy = self._proxy_of(node, uri)
            async with asyncio.timeout(timings.node_connect):
                if uri.secure:
                    way.step = _Step.TRUST
                    way.context = await self._trust.context(node.ca_pem)
                if way.proxy is None:
                    await self._dial(way, connection)
                else:
                    await self._dial_through(way.proxy, way, connection)
                way.step = _Step.NODE
                await connection.opened
        except BaseException as error:
            connection.disown()
            if isinstance(error, Exception):
                self._note_failed(way, error)
                raise ConnectFailed(way.explain(error, timings)) from None
            raise
        return connection

    def _proxy_of(self, node: NodeConfig, uri: WebSocketURI) -> Proxy | None:
        own = node.proxy or self._proxy
        proxy = parse_proxy(own) if own else proxy_for(os.environ, uri.host, uri.port, secure=uri.secure)
        told = "" if proxy is None else str(proxy)
        if self._told.get(node.address, "") != told:
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[node.address] = told
            how = f"through the proxy {proxy.place}" if proxy is not None else "without a proxy"
            _log.info(f"the node is reached {how}", node=node.shown)
        return proxy

    async def _open_tcp(self, way: _Way, host: str, port: int) -> socket.socket:
        deadline = asyncio.get_running_loop().time() + self._timings.node_connect
        way.step, way.asked = _Step.NAME, host
        if self._names.known(host) is None:
            await self._names.resolve(host)
        way.step, way.asked = _Step.TCP, host
        sock, address = await open_tcp(self._names, host, port, deadline, self._timings)
        way.dialled = (host, address)
        return sock

    async def _dial(self, way: _Way, connection: NodeConnection) -> None:
        sock = await self._open_tcp(way, way.host, way.port)
        way.step = _Step.NODE
        # From here on the socket is the loop's, which closes it where the wait for the transport is cancelled.
        await asyncio.get_running_loop().create_connection(
            lambda: connection, sock=sock, ssl=way.context, server_hostname=way.host if way.context else None
        )

    async def _dial_through(self, proxy: Proxy, way: _Way, connection: NodeConnection) -> None:
        host, address = way.host, None
        if proxy.scheme == "socks5":
            way.step, way.asked = _Step.NAME, host
            address = (await self._names.resolve(host))[0]
        sock = await self._open_tcp(way, proxy.host, proxy.port)
        way.step = _Step.PROXY
        context = None
        if proxy.scheme == "https":
            try:
                context = await self._trust.context(None)
            except BaseException:
                sock.close()
                raise
        tunnel = await open_tunnel(sock, proxy, context)
        try:
            if address is not None:
                host, way.dialled = address[1], (way.host, address)
            await tunnel.lead_to(proxy, host, way.port)
            way.step = _Step.NODE
            await tunnel.carry(connection, way.context, way.host)
        except BaseException:
            tunnel.transport.abort()
            raise

    def _note_failed(self, way: _Way, error: Exception) -> None:
        if isinstance(error, ssl.SSLCertVerificationError) and way.context is not None and way.step is _Step.NODE:
            self._trust.failed(way.context)
        if way.dialled is not None:
            # Something answers there that serves no session: of several addresses another comes first now.
            self._names.defer(*way.dialled)


class _Step(enum.Enum):
    """What of a way to a node is being done."""

    TRUST = "read CA certificates"
    NAME = "look a name up"
    TCP = "connect"
    PROXY = "talk to the proxy"
    NODE = "talk to the node"


@dataclass(slots=True)
class _Way:
    """One attempt to reach a node: how, and how far it has come.

    Attributes:
        asked: whose name or addresses it is that are asked for: the node's, or the proxy's.
        dialled: the host that was connected to, and by which of its addresses.
    """

    host: str
    port: int
    proxy: Proxy | None = None
    context: ssl.SSLContext | None = None
    step: _Step = _Step.NODE
    asked: str = ""
    dialled: tuple[str, Address] | None = None

    def explain(self, error: Exception, timings: Timings) -> Ending:
        """Say in words what went wrong."""
        where = f"{self.host}:{self.port}"
        within = f"within {timings.node_connect:.0f} s"
        if isinstance(error, InvalidValue | ProxyFailed):
            return Ending(EndKind.LOST, str(error))
        if isinstance(error, TimeoutError) and error.errno is None:
            if self.step is _Step.TRUST:
                return Ending(EndKind.LOST, f"the system's CA certificates could not be read {within}")
            if self.step is _Step.NAME:
                whose = "node's" if self.asked == self.host else "proxy's"
                return Ending(EndKind.LOST, f"the resolver gave no answer for the {whose} name {self.asked} {within}")
        if self.proxy is None or self.step is _Step.TRUST:
            return _explain(error, where, timings)
        if self.step is _Step.NODE:
            return _explain(error, f"{where} through the proxy {self.proxy.place}", timings)
        if self.step is _Step.NAME and self.asked == self.host:
            return _explain(error, where, timings)
        return Ending(EndKind.LOST, f"cannot reach the proxy {self.proxy}: {_words_of(error, within)}")


def _words_of(error: Exception, within: str) -> str:
    match error:
        case TimeoutError(errno=None):
            return f"no answer {within}"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): set SSL_CERT_FILE"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror() if error.errno in UNKNOWN_NAME:
            return "its name does not resolve"
        case OSError(errno=int(code)) if not isinstance(error, socket.gaierror):
            return os.strerror(code)
        case OSError():
            return error.strerror or str(error)
        case _:
            return type(error).__name__


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
