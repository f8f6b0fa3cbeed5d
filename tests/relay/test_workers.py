"""Tests of relay.workers: the spread, and real processes on a development node."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config import BackendConfig, Limits, RelayConfig
from relay.devnode import DevNode
from relay.timings import Timings
from relay.workers import Share, _note_end, _Worker, usable_cores, worker_of
from tests.support.processes import ManagedProcess, child_environment
from tests.support.relays import SECRET, on_uvloop, recorded_logs
from tests.support.targets import EchoTarget, HttpTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HOSTS = [f"h{number}.example.com" for number in range(6)]


def backend(key: str, tenant: str = "", limits: Limits = Limits()) -> BackendConfig:
    return BackendConfig(key=key, name=key, nodes=(), credential=None, tenant=tenant, tenant_limits=limits)


class SpreadTests(SimpleTestCase):
    @given(st.text(max_size=20), st.integers(1, 16))
    def test_each_backend_has_one_worker(self, key: str, count: int) -> None:
        config = RelayConfig({key: backend(key)}, generation=7)
        shares = [Share(index, count).of(config) for index in range(count)]
        self.assertEqual([len(share.backends) for share in shares].count(1), 1)
        self.assertEqual({share.generation for share in shares}, {7})

    def test_it_is_even_and_known_for_ever(self) -> None:
        for count in (2, 4, 16):
            spread = Counter(worker_of(backend(f"backend:{number}"), count) for number in range(4000))
            self.assertEqual(len(spread), count)
            self.assertLess(max(spread.values()), 1.25 * 4000 / count)
        self.assertEqual([worker_of(backend(f"backend:{number}"), 4) for number in range(8)], [0, 1, 3, 1, 2, 2, 0, 0])

    def test_a_tenant_with_limits_stays_together(self) -> None:
        together = {worker_of(backend(f"b{n}", "shop", Limits(max_streams=5)), 8) for n in range(50)}
        apart = {worker_of(backend(f"b{n}", "shop"), 8) for n in range(50)}
        self.assertEqual((len(together), len(apart)), (1, 8))

    def test_a_share_as_text(self) -> None:
        self.assertEqual(Share.parse(str(Share(1, 3))), Share(1, 3))


class RestartTests(SimpleTestCase):
    def test_the_pause_doubles_and_falls_back_behind_a_steady_worker(self) -> None:
        timings = Timings(worker_restart=(2.0, 5.0), worker_steady=60.0)
        worker, ended = _Worker(Share(0, 1)), mock.Mock(pid=1)
        ended.poll.return_value = 1
        delays = []
        with recorded_logs():
            for lasted in (0, 1, 2, 59, 61, 0):
                worker.process, worker.started = ended, time.monotonic() - lasted
                worker.lifeline = os.open(os.devnull, os.O_RDONLY)
                _note_end(worker, timings, stopping=False)
                delays.append(worker.delay)
        self.assertEqual(delays, [2, 4, 5, 5, 2, 4])


class UsableCoresTests(SimpleTestCase):
    def test_a_containers_quota_counts(self) -> None:
        cores = len(os.sched_getaffinity(0))
        for files, expected in (
            ({}, cores),
            ({"cpu.max": "max 100000\n"}, cores),
            ({"cpu.max": "100000 100000\n"}, 1),
            ({"cpu.max": "150000 100000\n"}, min(2, cores)),
            ({"cpu.max": "6400000 100000\n"}, cores),
            ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, cores),
            ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
            ({"cpu.max": "nonsense"}, cores),
        ):
            with self.subTest(files), tempfile.TemporaryDirectory() as directory:
                (Path(directory) / "cpu").mkdir()
                for name, text in files.items():
                    (Path(directory) / name).write_text(text)
                self.assertEqual(usable_cores(Path(directory)), expected)


@contextlib.asynccontextmanager
async def served(target: str) -> AsyncIterator[tuple[DevNode, ManagedProcess]]:
    """A node here, and two workers that serve six backends of it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with DevNode(secret=SECRET, http_ports={80: 0}, dead_session_linger=0.0) as node:
            (directory / "ca.pem").write_text(node.ca_pem)
            entries = [
                f"  - name: b{number}\n    hostnames: [{host}]\n    nexusAddresses: ['{node.address}']\n"
                f"    attestation: {{hmacSecret: {SECRET}}}\n    portMappings: {{80: '{target}'}}\n"
                for number, host in enumerate(HOSTS)
            ]
            (directory / "config.yaml").write_text("backends:\n" + "".join(entries))
            process = ManagedProcess(
                [sys.executable, "manage.py", "runrelay", "--config", f"{name}/config.yaml", "--workers", "2"],
                env=child_environment(SSL_CERT_FILE=f"{name}/ca.pem", LOG_LEVEL="INFO"),
            )
            try:
                await async_wait_until(
                    lambda: process.returncode is not None or process.output().count("session up") == len(HOSTS), "up"
                )
                yield node, process
            finally:
                children = workers(process)
                process.stop()
                await async_wait_until(lambda: not any(map(alive, children)), "the workers' end")


def workers(process: ManagedProcess) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def answered(node: DevNode) -> list[bool]:
    return [(await http_get(node.public_port(), host)).ok for host in HOSTS]


class ProcessTests(SimpleTestCase):
    @on_uvloop
    async def test_a_worker_that_dies_is_started_again_and_the_other_goes_on(self) -> None:
        async with HttpTarget() as target, served(target.address) as (node, process):
            self.assertEqual(await answered(node), [True] * len(HOSTS), process.output())
            first, second = workers(process)
            os.kill(first, signal.SIGKILL)
            up = len(HOSTS)
            await async_wait_until(lambda: process.output().count("session up") > up, "the new worker's sessions")
            await async_wait_until(lambda: len(node.sessions) == len(HOSTS), "all sessions")
            self.assertEqual(await answered(node), [True] * len(HOSTS), process.output())
            self.assertIn(second, workers(process))
            process.send(signal.SIGHUP)
            read = "reading configuration and secrets again"
            await async_wait_until(lambda: process.output().count(read) == 2, "both workers read again")
            self.assertEqual(await answered(node), [True] * len(HOSTS), process.output())
            self.assertIn("worker died: SIGKILL", process.output())
            process.send(signal.SIGTERM)
            await async_wait_until(lambda: process.returncode is not None, "the end")
            self.assertEqual(process.returncode, 0, process.output())
            self.assertEqual(process.output().count("stopping: "), 2)

    @on_uvloop
    async def test_workers_drain_when_their_parent_was_killed(self) -> None:
        async with EchoTarget() as target, served(target.address) as (node, process):
            children = workers(process)
            async with TcpUser(node.public_port()) as user:
                head = request_head(HOSTS[0], "/")
                await user.send(head)
                self.assertEqual(await user.receive(len(head)), head)
                os.kill(process.pid, signal.SIGKILL)
                await async_wait_until(lambda: process.output().count("parent gone") == 2, "the drain")
                await user.send(b"still here")
                self.assertEqual(await user.receive(10), b"still here")
            await async_wait_until(lambda: not any(map(alive, children)), "the workers' end")

    @on_uvloop
    async def test_a_file_that_can_not_be_read_is_told_once(self) -> None:
        process = ManagedProcess(
            [sys.executable, "manage.py", "runrelay", "--config", "/nowhere.yaml", "--workers", "2"],
            env=child_environment(),
        )
        await async_wait_until(lambda: process.returncode is not None, "the end")
        self.assertEqual((process.returncode, process.output().count("/nowhere.yaml")), (2, 1), process.output())
