"""Users of a node's public ports, for tests and benches."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.pattern import pattern_chunks

TIMEOUT = 10.0
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back; `status` 0 when the connection ended before an answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether it is a 200."""
        return self.status == 200


class TcpUser:
    """A raw TCP connection; with `server_name` a TLS one that names it as SNI and trusts everybody."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", server_name: str | None = None) -> None:
        self.port = port
        self.host = host
        self._server_name = server_name
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        context = _trusting() if self._server_name else None
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, ssl=context, server_hostname=self._server_name, limit=_CHUNK
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    @property
    def address(self) -> str:
        """Its own address, as ``client_ip`` shows it."""
        host, port = self.writer.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    async def send(self, data: bytes) -> None:
        """Write and wait until the buffers have room again."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, size: int, timeout: float = TIMEOUT) -> bytes:
        """Return exactly `size` bytes."""
        async with asyncio.timeout(timeout):
            return await self.reader.readexactly(size)

    async def receive_all(self, timeout: float = TIMEOUT) -> bytes:
        """Return everything up to the end of the connection, be it EOF or a reset."""
        received = bytearray()
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(_CHUNK):
                    received += data
        return bytes(received)

    def send_eof(self) -> None:
        """Half-close."""
        self.writer.write_eof()

    def close(self) -> None:
        """Close after what was written."""
        self.writer.close()


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def request_head(host: str, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> bytes:
    """The head of an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def http_get(port: int, host: str, path: str = "/small", *, timeout: float = TIMEOUT) -> HttpAnswer:
    """One GET over a connection of its own."""
    async with asyncio.timeout(timeout), TcpUser(port) as user:
        return await _get(user, host, path)


async def https_get(port: int, host: str, path: str = "/small", *, timeout: float = TIMEOUT) -> HttpAnswer:
    """One GET over TLS, with `host` as SNI and Host."""
    async with asyncio.timeout(timeout), TcpUser(port, server_name=host) as user:
        return await _get(user, host, path)


async def _get(user: TcpUser, host: str, path: str) -> HttpAnswer:
    try:
        await user.send(request_head(host, path))
        head = await user.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        length = headers.get("content-length")
        body = await (user.reader.readexactly(int(length)) if length else user.reader.read())
    except (asyncio.IncompleteReadError, ConnectionError):
        return HttpAnswer(0, b"", {})
    return HttpAnswer(int(status.split()[1]), body, headers)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a bulk transfer moved: bytes and their SHA-256 in hex."""

    size: int
    sha256: str


async def download(port: int, host: str, size: int, *, timeout: float = 60.0) -> Transfer:
    """Read ``/source/SIZE`` of a `tests.support.targets.HttpTarget` to its end."""
    digest, received = hashlib.sha256(), 0
    async with asyncio.timeout(timeout), TcpUser(port) as user:
        await user.send(request_head(host, f"/source/{size}"))
        with contextlib.suppress(ConnectionError):
            while data := await user.reader.read(_CHUNK):
                digest.update(data)
                received += len(data)
    return Transfer(received, digest.hexdigest())


async def upload(port: int, host: str, size: int, *, timeout: float = 60.0) -> bytes:
    """Write `size` bytes of the pattern to ``/sink/SIZE``; return the answer (``OK`` and a line end; empty if cut).

    The target keeps the hash of what came: `HttpTarget.sinks`.
    """
    async with asyncio.timeout(timeout), TcpUser(port) as user:
        try:
            await user.send(request_head(host, f"/sink/{size}", "PUT"))
            for chunk in pattern_chunks(size):
                await user.send(chunk)
            return await user.reader.read()
        except ConnectionError:
            return b""


class UdpUser(asyncio.DatagramProtocol):
    """One user address at a public UDP port."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._remote = (host, port)
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._socket.connect(self._remote)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._received.put_nowait(data)

    def send(self, datagram: bytes) -> None:
        """Send one datagram, an empty one too (asyncio before 3.13 leaves those out)."""
        self._socket.send(datagram)

    async def receive(self, timeout: float = TIMEOUT) -> bytes:
        """Return the next datagram."""
        async with asyncio.timeout(timeout):
            return await self._received.get()
