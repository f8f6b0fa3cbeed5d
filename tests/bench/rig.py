"""Processes that are measured against each other: the relay on a lean node, and HAProxy as the floor."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from relay.config import BackendConfig
from relay.workers import worker_of
from tests.support.ports import free_port, is_listening
from tests.support.processes import ManagedProcess, child_environment
from tests.support.programs import find_haproxy
from tests.support.waiting import async_wait_until

GB = 1e9
SECRET = "bench-secret-bench-secret-bench-1234"


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its children that still run have used, all threads."""
    pids, total = [pid], 0
    while pids:
        current = pids.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{current}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
            for task in Path(f"/proc/{current}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Node:
    """A lean node that takes orders."""

    def __init__(self, process: ManagedProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self._reader, self._writer = reader, writer

    async def order(self, order: str, **arguments: Any) -> Any:
        """Have the node do something; return what it says."""
        self._writer.write(json.dumps({"order": order, **arguments}).encode() + b"\n")
        return json.loads(await self._reader.readline())

    async def streams_gone(self) -> None:
        """Let all users leave and wait until the relay has let go of them."""
        await self.order("leave")
        await asyncio.sleep(0.5)
        await self.order("take")


class Rig:
    """One relay with ``backends`` sessions on as many lean nodes."""

    def __init__(self, relay: ManagedProcess, nodes: Sequence[Node]) -> None:
        self.relay, self.nodes = relay, nodes

    @property
    def node(self) -> Node:
        """The first node."""
        return self.nodes[0]


@contextlib.asynccontextmanager
async def rig(*relay_arguments: str, backends: int = 1) -> AsyncIterator[Rig]:
    """Start lean nodes and `manage.py runrelay` on a file with one backend for each; end them afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="nexusadmin-rig-"))
    processes: list[ManagedProcess] = []
    try:
        nodes, entries = [], []
        for number in range(backends):
            hub, target, control = free_port(), free_port(), free_port()
            process = ManagedProcess(
                [sys.executable, "-m", "tests.bench.lean_node", str(directory), str(hub), str(target), str(control)],
                env=child_environment(),
            )
            processes.append(process)
            process.wait_ready(lambda port=control: is_listening(port), "the lean node listens")  # type: ignore[misc]
            nodes.append(Node(process, *await asyncio.open_connection("127.0.0.1", control)))
            entries.append(
                f"  - name: {_name(number, backends)}\n    hostnames: [app.example.com]\n"
                f"    nexusAddresses: ['wss://127.0.0.1:{hub}/connect']\n"
                f"    attestation: {{hmacSecret: {SECRET}}}\n    portMappings: {{443: 'localhost:{target}'}}\n"
            )
        config = directory / "config.yaml"
        config.write_text("backends:\n" + "".join(entries))
        relay = ManagedProcess(
            [sys.executable, "manage.py", "runrelay", "--config", str(config), *relay_arguments],
            env=child_environment(SSL_CERT_FILE=str(directory / "ca.pem"), LOG_LEVEL="WARNING"),
        )
        processes.append(relay)
        for node in nodes:
            while not await node.order("sessions"):
                if relay.returncode is not None:
                    raise AssertionError(relay.output())
                await asyncio.sleep(0.05)
        yield Rig(relay, nodes)
    except BaseException:
        for process in processes:
            sys.stderr.write(process.output()[-3000:])
        raise
    finally:
        for process in reversed(processes):
            await asyncio.to_thread(process.stop)
        shutil.rmtree(directory, ignore_errors=True)


def _name(number: int, count: int) -> str:
    """Return a name by which the backend is the ``number``-th worker's, where there are as many workers."""
    names = (f"bench-{suffix}" for suffix in itertools.count())
    return next(
        name
        for name in names
        if worker_of(BackendConfig(key=name, name=name, nodes=(), credential=None), count) == number
    )


class Pump(asyncio.BufferedProtocol):
    """Writes as much as it can, or reads all that comes, and counts."""

    def __init__(self, *, source: bool) -> None:
        self._source, self._full = source, False
        self._buffer, self._block = bytearray(1 << 18), bytes(1 << 18)
        self.carried = 0
        self._transport: Any = None  # stays so where the TLS handshake never ends, as of a probe that left

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=1 << 20, low=1 << 19)
        self._pump()

    def _pump(self) -> None:
        if self._source and not self._full and not self._transport.is_closing():
            # One block a turn: uvloop's TLS swallows what is written to a peer who has gone, and never says stop.
            self._transport.write(self._block)
            asyncio.get_running_loop().call_soon(self._pump)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.carried += nbytes

    def connection_lost(self, exc: Exception | None) -> None:
        self._full = True

    def abort(self) -> None:
        """Drop the connection, if there ever was one."""
        if self._transport is not None:
            self._transport.abort()


HAPROXY = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen relay
  bind 127.0.0.1:{front}
  server peer 127.0.0.1:{back} ssl verify none ssl-min-ver TLSv1.3 ciphersuites TLS_AES_256_GCM_SHA384
"""
"""One thread, TCP in front, TLS 1.3 behind, the cipher of the relay's session: the least that a relay does."""


async def haproxy(direction: str, streams: int, seconds: float) -> dict[str, float]:
    """Carry bytes through HAProxy from TCP into TLS (``down``) or back (``up``)."""
    from relay.devnode.certificate import ensure_certificate

    front, back = free_port(), free_port()
    loop, pumps = asyncio.get_running_loop(), []
    with tempfile.TemporaryDirectory(prefix="nexusadmin-haproxy-") as name:
        directory = Path(name)
        (directory / "haproxy.cfg").write_text(HAPROXY.format(front=front, back=back))
        context = ensure_certificate(directory).server_context()

        def accept() -> Pump:
            pumps.append(Pump(source=direction == "up"))
            return pumps[-1]

        server = await loop.create_server(accept, "127.0.0.1", back, ssl=context)
        process = ManagedProcess(
            [find_haproxy() or "haproxy", "-db", "-f", str(directory / "haproxy.cfg")], env=child_environment()
        )
        try:
            process.wait_ready(lambda: is_listening(front), "HAProxy listens")
            for _ in range(streams):
                _, pump = await loop.create_connection(lambda: Pump(source=direction == "down"), "127.0.0.1", front)
                pumps.append(pump)
            await async_wait_until(lambda: sum(pump.carried for pump in pumps) > 1e7, "bytes arrive")
            cpu, carried, start = cpu_seconds(process.pid), sum(pump.carried for pump in pumps), loop.time()
            await asyncio.sleep(seconds)
            gigabytes = (sum(pump.carried for pump in pumps) - carried) / GB
            elapsed, cpu = loop.time() - start, cpu_seconds(process.pid) - cpu
            for pump in pumps:
                pump.abort()
        finally:
            server.close()
            await asyncio.to_thread(process.stop)
    return {"MB/s": 1000 * gigabytes / elapsed, "CPU-s/GB": cpu / gigabytes}
