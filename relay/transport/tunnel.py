"""A tunnel through a proxy to a node: CONNECT (RFC 9110, section 9.3.6), and SOCKS5 (RFC 1928, RFC 1929).

python-socks, which websockets itself uses, opens its connections by itself and looks names up in the event loop's own
threads, and takes a CONNECT's answer for whole that is not: here only the words to the proxy are left to say.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import Final

from websockets.headers import build_authorization_basic

from relay.config.proxies import Proxy

MAX_ANSWER: Final = 32 * 1024
"""Bytes of the longest head of an answer to CONNECT."""

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_PASSWORD: Final = 2
_PASSWORD_VERSION: Final = 1
_CONNECT: Final = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

_REPLIES: Final = {
    2: "its rules do not allow it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection is refused",
    6: "it has expired on its way",
}
"""RFC 1928, section 6; others are general failures."""


class ProxyFailed(Exception):
    """The proxy opened no tunnel; its text says why, and holds no credential."""


class Tunnel:
    """A connection to a proxy, until it leads to a node.

    Args:
        transport: the connection.
        reader: what the proxy says on it.
    """

    def __init__(self, transport: asyncio.Transport, reader: asyncio.StreamReader) -> None:
        self.transport = transport
        self._reader = reader

    async def lead_to(self, proxy: Proxy, host: str, port: int) -> None:
        """Let the proxy connect to a host.

        Args:
            host: a name, or an IP address without brackets.

        Raises:
            ProxyFailed: it does not.
        """
        try:
            if proxy.scheme.startswith("socks"):
                await self._socks(proxy, host, port)
            else:
                await self._connect(proxy, host, port)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, UnicodeError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise ProxyFailed(f"the proxy {proxy} ended the connection, or does not speak its protocol") from None

    async def carry(self, protocol: asyncio.BaseProtocol, context: ssl.SSLContext | None, name: str) -> None:
        """Hand the connection, which leads to a node by now, to a protocol: with TLS inside it, or as it is.

        Args:
            context: what the node's certificate is checked with; None for none.
            name: that the certificate has to have.

        Raises:
            OSError: TLS with the node failed.
        """
        if context is None:
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            return
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(self.transport, protocol, context, server_hostname=name)
        if inner is None:
            raise ConnectionResetError("the connection ended during the TLS handshake")
        protocol.connection_made(inner)

    async def _connect(self, proxy: Proxy, host: str, port: int) -> None:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.credential is not None:
            lines.append(f"Proxy-Authorization: {build_authorization_basic(*proxy.credential)}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        head = await self._reader.readuntil(b"\r\n\r\n")
        version, _, rest = head.split(b"\r\n", 1)[0].decode("ascii").partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise ProxyFailed(f"the proxy {proxy} answered no HTTP to CONNECT: check its scheme and port")
        if status == "407":
            remedy = "correct" if proxy.credential else "write"
            raise ProxyFailed(f"the proxy {proxy} wants other credentials (HTTP 407): {remedy} USER:PASSWORD@")
        if not status.startswith("2"):
            raise ProxyFailed(f"the proxy {proxy} does not connect to {place}: it answered HTTP {status}")

    async def _socks(self, proxy: Proxy, host: str, port: int) -> None:
        methods = [_NO_AUTHENTICATION] if proxy.credential is None else [_NO_AUTHENTICATION, _PASSWORD]
        self.transport.write(bytes((_VERSION, len(methods), *methods)))
        version, method = await self._reader.readexactly(2)
        if version != _VERSION:
            raise ProxyFailed(f"the proxy {proxy} does not speak SOCKS5: check its scheme and port")
        if method == _PASSWORD and proxy.credential is not None:
            user, password = (each.encode() for each in proxy.credential)
            self.transport.write(bytes((_PASSWORD_VERSION, len(user))) + user + bytes((len(password),)) + password)
            if (await self._reader.readexactly(2))[1]:
                raise ProxyFailed(f"the proxy {proxy} refused user and password: correct USER:PASSWORD@")
        elif method != _NO_AUTHENTICATION:
            raise ProxyFailed(f"the proxy {proxy} wants other credentials: write USER:PASSWORD@ into its address")
        self.transport.write(bytes((_VERSION, _CONNECT, 0)) + _socks_address(host) + port.to_bytes(2, "big"))
        _, reply, _, kind = await self._reader.readexactly(4)
        if reply:
            why = _REPLIES.get(reply, f"reply {reply}")
            raise ProxyFailed(f"the proxy {proxy} does not connect to {host}:{port}: {why}")
        size = {_IPV4: 4, _IPV6: 16}.get(kind)
        if size is None:
            size = (await self._reader.readexactly(1))[0]
        await self._reader.readexactly(size + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.encode("ascii")
        return bytes((_NAME, len(name))) + name
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed


async def open_tunnel(sock: socket.socket, proxy: Proxy, context: ssl.SSLContext | None) -> Tunnel:
    """Return a tunnel that leads nowhere yet, on a socket that is connected to its proxy.

    Args:
        context: for an ``https`` proxy, which its certificate is checked with.

    Raises:
        OSError: TLS with the proxy failed.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_ANSWER)
    transport, _ = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader),
        sock=sock,
        ssl=context,
        server_hostname=proxy.host if context is not None else None,
    )
    return Tunnel(transport, reader)
