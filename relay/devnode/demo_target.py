"""A local service to relay to: answers each HTTP request with what it saw, so that one sees where a request went."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

from relay.devnode.certificate import NodeCertificate, ensure_certificate

_logger = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 15.0
"""Seconds that a client may take for its request."""

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024 * 1024

Refused = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and what the answer shows of the header."""

    method: str
    path: str
    host: str
    body_length: int


class DemoTarget:
    """An HTTP and an HTTPS server on loopback that say their name and what they were asked.

    TLS ends here, with a certificate for ``hostnames`` from a CA of its own, which is kept in ``directory``.

    Raises:
        OSError: a port is taken, or the directory cannot be written.
    """

    def __init__(
        self,
        name: str,
        *,
        directory: Path,
        hostnames: Sequence[str],
        host: str = "127.0.0.1",
        http: int = 0,
        tls: int = 0,
    ) -> None:
        self.name = name
        self._host = host
        self._wanted = (http, tls)
        self._certificate: NodeCertificate = ensure_certificate(directory, hostnames)
        self._server_names: WeakKeyDictionary[ssl.SSLObject | ssl.SSLSocket, str] = WeakKeyDictionary()
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def ca_file(self) -> Path:
        """The CA file that clients trust."""
        return self._certificate.ca_file

    @property
    def http_port(self) -> int:
        """Where it serves HTTP."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def tls_port(self) -> int:
        """Where it serves HTTPS."""
        return int(self._servers[1].sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        context = self._certificate.server_context()
        context.sni_callback = self._remember_server_name
        try:
            for port, tls in zip(self._wanted, (None, context), strict=True):
                self._servers.append(
                    await asyncio.start_server(self._accept, self._host, port, ssl=tls, limit=MAX_HEAD)
                )
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _remember_server_name(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._server_names[connection] = name or ""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: one of asyncio's is reported as an error when it is cancelled, as at the end.
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await _read_head(reader)
                if isinstance(head, Head):
                    await _discard(reader, head.body_length)
            writer.write(self._answer(head, writer))
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await writer.drain()
        except (OSError, EOFError, TimeoutError) as error:
            _logger.debug("demo target: connection ended early: %s", type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await writer.wait_closed()

    def _answer(self, head: Head | Refused, writer: asyncio.StreamWriter) -> bytes:
        if not isinstance(head, Head):
            return _response(head[0], head[1] + "\n")
        secured = writer.get_extra_info("ssl_object")
        lines = {
            "target": self.name,
            "request": f"{head.method} {head.path}",
            "host": head.host or "(none)",
            "port": str(writer.get_extra_info("sockname")[1]),
            "tls": "no" if secured is None else f"yes, server name {self._server_names.get(secured) or '(none)'}",
        }
        text = "".join(f"{name}: {value}\n" for name, value in lines.items())
        return _response(200, text, with_body=head.method != "HEAD")


async def _read_head(reader: asyncio.StreamReader) -> Head | Refused:
    """Read up to the empty line.

    Raises:
        EOFError: the client left before that.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return 431, "the header is too long"
    first, *rest = raw.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return 400, "this is no HTTP/1.1 request"
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 12 or int(length) > MAX_BODY:
        return 413, "the body is too long"
    if "transfer-encoding" in fields:
        return 411, "give the body's length"
    if "100-continue" in fields.get("expect", ""):
        return 417, "send the body without waiting"
    return Head(parts[0], parts[1], fields.get("host", ""), int(length))


async def _discard(reader: asyncio.StreamReader, length: int) -> None:
    while length > 0:
        chunk = await reader.read(min(length, MAX_HEAD))
        if not chunk:
            raise EOFError
        length -= len(chunk)


def _response(status: int, text: str, *, with_body: bool = True) -> bytes:
    body = text.encode("latin-1", "replace")
    reason = "OK" if status == 200 else "Refused"
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")


async def serve(target: DemoTarget, until: asyncio.Event, announce: Callable[[DemoTarget], None]) -> None:
    """Serve until the event is set; ``announce`` is called once when both ports listen."""
    async with target:
        announce(target)
        await until.wait()
