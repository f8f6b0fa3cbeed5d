"""Local services for tests and benches: each an async context manager on a free loopback port.

They use nothing of Django and nothing of the relay but the development node's certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from relay.devnode.certificate import ensure_certificate
from tests.support.pattern import pattern_chunks

_CHUNK = 256 * 1024


class Target:
    """A TCP (or Unix socket) service.

    Attributes:
        host, port: where it listens once started.
        accepted: connections that it has had.
        open: those that stand.
    """

    def __init__(self, *, port: int = 0, unix: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.unix = unix
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self._tls = tls
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """How a configuration names it: ``host:port`` or ``unix:/path``."""
        return f"unix:{self.unix}" if self.unix else f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; again at the same port after `stop`."""
        if self.unix:
            self._server = await asyncio.start_unix_server(self._accept, self.unix, ssl=self._tls)
        else:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    def drop(self) -> None:
        """Drop every connection."""
        for writer in list(self.open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            self.open.discard(writer)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; it is closed afterwards."""
        raise NotImplementedError


class EchoTarget(Target):
    """Sends back what it gets."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


class HttpTarget(Target):
    """The service of the recorded sessions, one request a connection.

    ``GET /small``: 100 bytes with a Content-Length. ``GET /source/N``: N bytes of the pattern, bare, then EOF.
    ``PUT /sink/N``: reads N bytes, answers ``OK`` and a line end. ``GET /echo``: sends back what follows the headers.
    ``GET /name``: this target's name with a Content-Length.

    Attributes:
        name: what ``/name`` says.
        sinks: SHA-256 (hex) of what each ``/sink/N`` got, in order of completion.
        requests: the heads of the requests.
    """

    def __init__(self, name: str = "", *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(port=port, tls=tls)
        self.name = name
        self.sinks: list[str] = []
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        path = head.split(b" ", 2)[1].decode()
        _, kind, *rest = path.split("/")
        match kind:
            case "source":
                for chunk in pattern_chunks(int(rest[0])):
                    writer.write(chunk)
                    await writer.drain()
            case "sink":
                await self._sink(int(rest[0]), reader)
                writer.write(b"OK\n")
            case "echo":
                while data := await reader.read(_CHUNK):
                    writer.write(data)
                    await writer.drain()
            case "name":
                writer.write(_answer(self.name.encode()))
            case "small":
                writer.write(_answer(b"x" * 100))
            case _:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async def _sink(self, size: int, reader: asyncio.StreamReader) -> None:
        digest = hashlib.sha256()
        while size:
            data = await reader.read(min(size, _CHUNK))
            if not data:
                raise asyncio.IncompleteReadError(b"", size)
            digest.update(data)
            size -= len(data)
        self.sinks.append(digest.hexdigest())


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


class DeafTarget(Target):
    """Accepts and reads nothing: what it is sent stays in the kernel's buffers, and then with the sender."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await writer.wait_closed()


class ClosingTarget(Target):
    """Accepts and closes at once."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass


class SpeakingTarget(Target):
    """Speaks first, as SSH and SMTP do, then echoes."""

    def __init__(self, greeting: bytes) -> None:
        super().__init__()
        self.greeting = greeting

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        await EchoTarget.serve(self, reader, writer)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def unix_echo_target() -> AsyncIterator[EchoTarget]:
    """An `EchoTarget` at a Unix socket in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="target-") as directory:
        async with EchoTarget(unix=Path(directory) / "socket") as target:
            yield target


@contextlib.asynccontextmanager
async def refusing_target() -> AsyncIterator[str]:
    """The address of a loopback port that refuses connections and that nobody else gets meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@contextlib.asynccontextmanager
async def silent_target() -> AsyncIterator[str]:
    """A target that completes no handshake: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(address)
        yield f"127.0.0.1:{address[1]}"


class UdpEchoTarget(asyncio.DatagramProtocol):
    """Answers each datagram with ``re:`` and its content.

    Attributes:
        received: the datagrams.
        peers: the addresses that they came from.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.received: list[bytes] = []
        self.peers: set[tuple[str, int]] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        self._socket.bind((self.host, 0))
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        self.port = self._socket.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)
        self.peers.add(addr)
        assert self._transport is not None
        self._transport.sendto(b"re:" + data, addr)


@cache
def _certificate_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="target-certificate-")


def target_tls_context() -> ssl.SSLContext:
    """A server context with a certificate for ``localhost``, for targets that end TLS themselves."""
    return ensure_certificate(Path(_certificate_directory().name)).server_context()
