"""Small proxies on loopback, for tests: CONNECT, with TLS or without, and SOCKS5."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping

from tests.support.raw_server import raw_server


class TestProxy:
    """Leads each host that it is asked for to where `hosts` says.

    Attributes:
        asked: the hosts and ports that it was asked for, as it was asked.
        hosts: where a host is in truth; others as they are asked for. None refuses it.
        credential: that it wants; None for none.
        answer: bytes that are sent in place of a CONNECT's or a SOCKS request's answer.
    """

    __test__ = False

    def __init__(
        self, hosts: Mapping[str, str | None] | None = None, credential: tuple[str, str] | None = None
    ) -> None:
        self.hosts = dict(hosts or {})
        self.credential = credential
        self.asked: list[tuple[str, int]] = []
        self.answer: bytes | None = None
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[TestProxy]:
        """Serve on 127.0.0.1, both CONNECT and SOCKS5; with TLS around it where there is a context."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await self._serve(reader, writer)

        async with raw_server(serve, context) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        asked = await (self._socks(reader, writer) if first == b"\x05" else self._connect(first, reader, writer))
        if asked is None:
            return
        host, port, granted, refused = asked
        self.asked.append((host, port))
        where = self.hosts.get(host, host)
        if self.answer is not None or where is None:
            writer.write(self.answer if self.answer is not None else refused)
            await writer.drain()
            await reader.read()
            return
        there, back = await asyncio.open_connection(where, port)
        try:
            for byte in granted:  # nothing says that an answer comes in one piece
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            back.transport.abort()

    async def _connect(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, bytes, bytes] | None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        method, place, _ = head.split("\r\n")[0].split(" ")
        assert method == "CONNECT" and f"\r\nHost: {place}\r\n" in head
        if self.credential is not None:
            shown = base64.b64encode(":".join(self.credential).encode()).decode()
            if f"\r\nProxy-Authorization: Basic {shown}\r\n" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
                await writer.drain()
                return None
        host, _, port = place.rpartition(":")
        granted = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
        return host.strip("[]"), int(port), granted, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"

    async def _socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, bytes, bytes] | None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        wanted = 0 if self.credential is None else 2
        writer.write(bytes((5, wanted if wanted in methods else 0xFF)))
        if wanted not in methods:
            return None
        if self.credential is not None:
            await reader.readexactly(1)
            shown = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
            writer.write(bytes((1, int(tuple(shown) != self.credential))))
            if tuple(shown) != self.credential:
                await writer.drain()
                return None
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        return host, port, b"\x05\x00\x00\x03\x04test\x00\x00", b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
