"""Tests of relay.service: a relay as a process, and the signals that end it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from django.test import SimpleTestCase

from relay.devnode import DevNode
from tests.support.pattern import pattern
from tests.support.processes import ManagedProcess
from tests.support.relays import CLAIMS, HOST, SECRET, on_uvloop, presigned
from tests.support.targets import DeafTarget, EchoTarget, HttpTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")

PROGRAM = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from types import MappingProxyType
from relay import *
from relay.service import run, serve
options = json.loads(sys.argv[1])
credential = HmacSecret(options["secret"]) if "secret" in options else PresignedToken(options["token"])
ports = [PortRoutes("tcp", int(port), default=target) for port, target in options["targets"].items()]
backend = BackendConfig("app", "app", (NodeConfig(options["node"], ca_pem=options["ca"]),), credential,
                        claims=Claims(hostnames=(options["host"],)), routes=RouteTable.build(ports))
class Source:
    async def configs(self):
        if options.get("fail"):
            raise RuntimeError("no configuration")
        yield RelayConfig(MappingProxyType({"app": backend}))
        await asyncio.Event().wait()
if "reload" in options:
    Source.reload = lambda source: print("asked to read", flush=True)
timings = Timings(confirmed_after=0.05, tick=0.05)
run(lambda: serve(Relay(drain=options["drain"], timings=timings), Source()))
"""


def peak_memory(pid: int) -> int:
    """Bytes: the largest resident size that a process has had (VmHWM)."""
    return _memory(pid, "VmHWM")


def memory(pid: int) -> int:
    """Bytes: the resident size of a process."""
    return _memory(pid, "VmRSS")


def _memory(pid: int, field: str) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


@asynccontextmanager
async def served(
    *targets: str, dialect: str = "attested", drain: float = 20.0, **options: Any
) -> AsyncIterator[tuple[DevNode, ManagedProcess]]:
    """A node here and a relay in a process of its own; the targets stand behind the public ports 80, 81, …."""
    async with DevNode(
        dialect=dialect, secret=SECRET, http_ports={80 + number: 0 for number in range(len(targets))}
    ) as node:
        settings: dict[str, Any] = {
            "node": node.address,
            "ca": node.ca_pem,
            "host": HOST,
            "drain": drain,
            "targets": {80 + number: target for number, target in enumerate(targets)},
        } | options
        if dialect == "attested":
            settings["secret"] = SECRET
        else:
            settings["token"] = presigned(CLAIMS).token
        argv = [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, json.dumps(settings)]
        process = ManagedProcess(argv)
        try:
            if "fail" not in options:
                await node.wait_for_sessions(1, timeout=20)
                await async_wait_until(lambda: "session up" in process.output(), "the session")
            yield node, process
        finally:
            process.stop(signal.SIGKILL)


async def ended(process: ManagedProcess) -> int:
    """The exit code."""
    await async_wait_until(lambda: process.returncode is not None, "the end of the process")
    assert process.returncode is not None
    return process.returncode


class SignalTests(SimpleTestCase):
    @on_uvloop
    async def test_sigterm_drains(self) -> None:
        async with EchoTarget() as target, served(target.address) as (node, process):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                await user.receive(len(HEAD))
                process.send(signal.SIGTERM)
                await async_wait_until(lambda: "stopping: " in process.output(), "the drain")
                async with TcpUser(node.public_port()) as late:
                    await late.send(HEAD)
                    self.assertEqual(await late.receive(len(HEAD)), HEAD)
                await user.send(pattern(100_000))
                self.assertEqual(await user.receive(100_000), pattern(100_000))
                self.assertIsNone(process.returncode)
            self.assertEqual(await ended(process), 0, process.output())
            self.assertEqual((node.counters.streams_cut, node.dead_sessions), (0, ()))
            self.assertTrue(process.output().endswith("stopped\n"), process.output())

    @on_uvloop
    async def test_sighup_has_the_source_read_again_and_ends_nothing(self) -> None:
        for options, asked in (({"reload": True}, 2), ({}, 0)):
            async with EchoTarget() as target, served(target.address, **options) as (node, process):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    for number in range(1, asked + 1):
                        process.send(signal.SIGHUP)
                        await async_wait_until(
                            lambda n=number, p=process: p.output().count("asked to read") == n, "reading again"
                        )
                    process.send(signal.SIGHUP)
                    await user.send(pattern(100_000))
                    self.assertEqual(await user.receive(100_000), pattern(100_000))
                process.send(signal.SIGTERM)
                self.assertEqual(await ended(process), 0, process.output())

    @on_uvloop
    async def test_a_second_signal_stops_now(self) -> None:
        for second in (signal.SIGTERM, signal.SIGINT):
            async with EchoTarget() as target, served(target.address, drain=1000) as (node, process):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    process.send(signal.SIGTERM)
                    await async_wait_until(lambda p=process: "stopping: " in p.output(), "the drain")
                    process.send(second)
                    self.assertEqual(await ended(process), 0, process.output())
                    self.assertEqual(await user.receive_all(), b"")
                self.assertEqual(node.dead_sessions, ())
                self.assertNotIn("Traceback", process.output())

    @on_uvloop
    async def test_a_drain_ends_at_its_deadline(self) -> None:
        async with EchoTarget() as target, served(target.address, drain=0.2) as (node, process):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                await user.receive(len(HEAD))
                process.send(signal.SIGINT)
                self.assertEqual(await ended(process), 0, process.output())
            self.assertEqual(node.counters.disconnect_reasons.get("shutdown"), 1)

    @on_uvloop
    async def test_a_source_that_fails_for_good_ends_the_service(self) -> None:
        async with served(fail=True) as (_, process):
            self.assertEqual(await ended(process), 1)
            self.assertIn("no configuration", process.output())


class MemoryTests(SimpleTestCase):
    @on_uvloop
    async def test_100_mb_each_way_over_8_streams(self) -> None:
        size = 12_500_000
        for dialect in ("attested", "token"):
            async with EchoTarget() as target, served(target.address, dialect=dialect) as (node, process):
                await self._echo(node, 100_000)
                before = memory(process.pid)
                # Without credits nothing but the users themselves keeps the node's lane from overflowing.
                step = size if dialect == "attested" else 250_000
                self.assertEqual(await asyncio.gather(*(self._echo(node, size, step) for _ in range(8))), [True] * 8)
                self.assertLess(peak_memory(process.pid) - before, 64 * 1024 * 1024)
                self.assertEqual(node.counters.lane_drops, 0)

    async def _echo(self, node: DevNode, size: int, step: int = 0) -> bool:
        """Send and get back ``size`` bytes, at most ``step`` of them under way."""
        data = HEAD + pattern(size)
        async with TcpUser(node.public_port()) as user:
            for start in range(0, len(data), step or len(data)):
                part = data[start : start + (step or len(data))]
                sending = asyncio.create_task(user.send(part))
                if await user.receive(len(part), timeout=60) != part:
                    return False
                await sending
            return True

    @on_uvloop
    async def test_targets_that_read_nothing(self) -> None:
        """32 users flood deaf targets while another downloads: nothing grows, and all is whole."""
        async with DeafTarget() as deaf, HttpTarget() as target:
            async with served(deaf.address, target.address) as (node, process):
                self.assertTrue((await http_get(node.public_port("http", 81), HOST)).ok)
                before = memory(process.pid)
                users = [TcpUser(node.public_port("http", 80)) for _ in range(32)]
                floods = []
                for number, user in enumerate(users, 1):
                    await user.__aenter__()
                    await user.send(HEAD)
                    # Until its first grant is there a user is not limited, and 32 at once would fill the lane.
                    await async_wait_until(lambda n=number: deaf.accepted == n, "the deaf target")
                    floods.append(asyncio.create_task(user.send(pattern(4_000_000))))
                for _ in range(3):
                    async with TcpUser(node.public_port("http", 81)) as user:
                        await user.send(request_head(HOST, "/source/10000000"))
                        self.assertEqual(await user.receive_all(timeout=30), pattern(10_000_000))
                self.assertLess(peak_memory(process.pid) - before, 64 * 1024 * 1024)
                killed = node.counters.users_killed
                for user, flood in zip(users, floods, strict=True):
                    flood.cancel()
                    await user.__aexit__(None, None, None)
                await asyncio.gather(*floods, return_exceptions=True)
                self.assertEqual(killed, 0)
