"""The reporter with a live relay and real databases: everything arrives, once, and no outage loses or repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import unittest
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unittest import mock

import time_machine
from django.db import DatabaseError, connections
from django.test.utils import CaptureQueriesContext

from relay import HmacSecret, RelayConfig
from relay.devnode import DevNode
from relay.relay import Relay
from tenants.bridge import reporter as module
from tenants.bridge.reporter import Reporter
from tenants.changes.fingerprints import fingerprint
from tenants.models import Backend, BackendUsage, CredentialUse, RelayProcess, RelaySession, RelayTarget, RelayUplink
from tenants.services.relays import reports
from tenants.services.relays.reports import Carried
from tests.support.ports import free_port
from tests.support.registry import (
    make_served_backend,
    make_tenant,
    migrated_server,
    postgres_database,
    sqlite_database,
)
from tests.support.relays import HOST, SECRET, quick, recorded_logs, running
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")
QUICK = 0.05
_T = TypeVar("_T")


def usage_of(alias: str, backend: Backend) -> tuple[int, int, int, int, int]:
    """Return the sum of all hours."""
    rows = BackendUsage.objects.using(alias).filter(backend=backend)
    sums = [sum(getattr(row, name) for row in rows) for name in Carried._fields[:4]]
    return (*sums, max((row.peak_streams for row in rows), default=0))


class ReporterCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.alias = self.enterContext(sqlite_database())
        self.backend = make_served_backend(make_tenant(self.alias), HOST, using=self.alias)
        connections[self.alias].close()

    async def read(self, work: Callable[[], _T]) -> _T:
        def run() -> _T:
            try:
                return work()
            finally:
                connections[self.alias].close()

        return await asyncio.to_thread(run)

    def rows(self, model: Any) -> Any:
        return model.objects.using(self.alias)

    @contextlib.asynccontextmanager
    async def reporting(self, target: str = "", **options: Any) -> AsyncIterator[tuple[DevNode, Relay, Reporter]]:
        """Give a node and a relay that serves the backend, with a reporter beside it."""
        given = {"interval": QUICK, "using": self.alias, "name": "test-relay", "worker": ""}
        reporter = Reporter(**given | {name: options.pop(name) for name in given if name in options})
        over = asyncio.Event()
        async with running(target, key=f"backend:{self.backend.pk}", usage=reporter.usage, **options) as (node, relay):
            beside = asyncio.create_task(reporter.beside(relay, self._until(over)))
            try:
                yield node, relay, reporter
            finally:
                over.set()
                await beside

    async def _until(self, over: asyncio.Event) -> None:
        await over.wait()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until what is stored is so."""
        async with asyncio.timeout(20):
            while not await self.read(condition):
                await asyncio.sleep(0.02)

    async def carry(self, node: DevNode, data: bytes = HEAD) -> None:
        async with TcpUser(node.public_port()) as user:
            await user.send(data)
            self.assertEqual(await user.receive(len(data)), data)


class ReportTests(ReporterCase):
    async def test_sessions_usage_and_the_use_of_credentials_arrive(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address, worker="0/2") as (node, _, _):
            await self.carry(node)
            size = len(HEAD)
            await self.until(lambda: usage_of(self.alias, self.backend) == (1, 0, size, size, 1), "the usage")
            session, use, relay = await self.read(
                lambda: (
                    self.rows(RelaySession).live().get(),
                    self.rows(CredentialUse).get(),
                    self.rows(RelayProcess).get(),
                )
            )
            self.assertEqual((relay.name, relay.worker), ("test-relay", "0/2"))
            self.assertEqual((session.backend_id, session.node), (self.backend.pk, node.address))
            self.assertEqual((session.state, session.dialect), ("up", "attested"))
            self.assertEqual(session.claims["hostnames"], [HOST])
            self.assertEqual((session.fingerprint, session.expires_at), (fingerprint(SECRET), None))
            self.assertEqual((use.backend_id, use.node), (self.backend.pk, node.address))
            self.assertEqual((use.relay, use.fingerprint), ("test-relay 0/2", fingerprint(SECRET)))
            self.assertLess(abs(datetime.now(UTC) - use.used_at), timedelta(minutes=1))
        gone = await self.read(lambda: (self.rows(RelaySession).count(), self.rows(RelayProcess).count()))
        self.assertEqual(gone, (0, 0), "a clean stop leaves nothing behind")
        self.assertEqual(await self.read(lambda: usage_of(self.alias, self.backend)[0]), 1)

    async def test_the_claims_and_the_expiry_of_a_token(self) -> None:
        async with self.reporting(dialect="token"):
            await self.until(lambda: self.rows(RelaySession).exists(), "the session")
            session = await self.read(lambda: self.rows(RelaySession).get())
            self.assertEqual((session.dialect, session.claims["weight"]), ("token", 1))
            self.assertLess(abs(session.expires_at - datetime.now(UTC)), timedelta(hours=1, minutes=1))

    async def test_sessions_that_end_go(self) -> None:
        async with self.reporting() as (_, relay, _):
            await self.until(lambda: self.rows(RelaySession).exists(), "the session")
            relay.apply(RelayConfig())
            await self.until(lambda: not self.rows(RelaySession).exists(), "it is gone")

    async def test_two_relays_of_one_name_add_up(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address) as (first, _, _):
            async with self.reporting(target.address) as (second, _, _):
                await self.carry(first)
                await self.carry(second)
                size = 2 * len(HEAD)
                await self.until(lambda: usage_of(self.alias, self.backend)[:4] == (2, 0, size, size), "both")
                await self.until(lambda: self.rows(RelaySession).live().count() == 2, "a session each")
            await self.until(lambda: self.rows(RelaySession).count() == 1, "only the stopped one's goes")

    async def test_hours_and_a_clock_that_jumps(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address, interval=3600.0) as (node, relay, reporter):
            for hour in (9, 10, 3):  # back, too
                with time_machine.travel(datetime(2031, 5, 6, hour, 59, tzinfo=UTC), tick=False):
                    await self.carry(node)
                    await reporter._count(relay)
        hours = self.rows(BackendUsage).filter(hour__year=2031).order_by("hour")
        found = await self.read(lambda: [(row.hour.hour, row.streams) for row in hours])
        self.assertEqual(found, [(3, 1), (9, 1), (10, 1)])

    async def test_backends_that_are_gone_are_forgotten(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address) as (node, relay, reporter):
            await self.carry(node)
            await self.read(lambda: self.rows(Backend).all().delete())
            relay.apply(RelayConfig())
            await async_wait_until(lambda: not list(reporter.usage), "the count is forgotten")
            await async_wait_until(lambda: not reporter._counted and not reporter._told, "and the rest")
        left = await self.read(
            lambda: [self.rows(model).count() for model in (BackendUsage, RelaySession, CredentialUse)]
        )
        self.assertEqual(left, [0, 0, 0])

    async def test_streams_that_come_and_go_write_no_claims(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address) as (node, _, _):
            await self.until(lambda: self.rows(RelaySession).exists(), "the session")
            with mock.patch.object(reports, "report_sessions", wraps=reports.report_sessions) as whole:
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await self.until(lambda: self.rows(RelaySession).get().streams == 1, "one stream")
                await self.until(lambda: self.rows(RelaySession).get().streams == 0, "no stream")
            self.assertEqual([call.args[1] for call in whole.call_args_list if call.args[1]], [])
            session = await self.read(lambda: self.rows(RelaySession).get())
            self.assertEqual(session.claims["hostnames"], [HOST])

    async def test_nothing_to_tell_is_one_small_write(self) -> None:
        async with self.reporting(interval=3600.0) as (_, relay, reporter):
            await self.until(lambda: self.rows(RelaySession).exists(), "the first report")
            await asyncio.wait({reporter._writing})  # what follows the sessions in it
            look = await reporter._look(relay)

            def write() -> list[str]:
                with CaptureQueriesContext(connections[self.alias]) as queries:
                    reporter._write(look, {told.id for told, _, _ in look.sessions})
                return [query["sql"].split()[0] for query in queries]

            self.assertEqual(await self.read(write), ["BEGIN", "UPDATE", "SELECT", "COMMIT"])


class TroubleTests(ReporterCase):
    async def test_attempts_that_fail_come_with_the_words_of_the_log_and_go_when_all_is_well(self) -> None:
        quickly = quick(retry_first=0.3, retry_longest=0.5)
        with recorded_logs() as logs:
            async with self.reporting(timings=quickly) as (node, _, reporter):
                self.assertFalse(await self.read(lambda: self.rows(RelayUplink).exists()))
                await node.stop()
                await self.until(lambda: self.rows(RelayUplink).filter(attempts__gte=2).exists(), "two attempts")
                row = await self.read(lambda: self.rows(RelayUplink).live().select_related("relay").get())
                self.assertEqual((row.backend_id, row.node, row.state), (self.backend.pk, node.address, "waiting"))
                self.assertIn("nothing listens", row.problem)
                self.assertIn(row.problem, logs.text())
                self.assertLess(abs(datetime.now(UTC) - row.since), timedelta(minutes=1))
                self.assertGreater(row.next_try, row.since)
                await node.start()
                await self.until(lambda: not self.rows(RelayUplink).exists(), "it is up")
                await async_wait_until(lambda: not reporter._troubles._uplinks._told, "and forgotten")

    async def test_a_refusal(self) -> None:
        with recorded_logs():
            async with self.reporting() as (node, relay, _):
                node.faults.refuse_reason = "not today"
                node.drop_sessions()
                await self.until(lambda: self.rows(RelayUplink).filter(state="refused").exists(), "the refusal")
                row = await self.read(lambda: self.rows(RelayUplink).get())
                self.assertIn("not today", row.problem)
                relay.apply(RelayConfig())
                await self.until(lambda: not self.rows(RelayUplink).exists(), "the backend is gone")

    async def test_a_dead_target_without_health_checks(self) -> None:
        port = free_port()
        target = f"127.0.0.1:{port}"
        with recorded_logs():
            async with self.reporting(target) as (node, _, _):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive_all()
                await self.until(lambda: self.rows(RelayTarget).exists(), "the target")
                row = await self.read(lambda: self.rows(RelayTarget).get())
                self.assertEqual((row.target, row.all_fail), (target, True))
                self.assertTrue(row.problem)
                async with EchoTarget(port=port):
                    await self.carry(node)
                    await self.until(lambda: not self.rows(RelayTarget).exists(), "it answers")

    async def test_a_lost_write_is_made_up_for(self) -> None:
        real, failed = reports.report_rows, []

        def once(*args: Any) -> None:
            real(*args)
            if not failed:
                failed.append(1)
                raise DatabaseError("the answer was lost")

        with recorded_logs(), mock.patch.object(reports, "report_rows", once):
            async with self.reporting(timings=quick(retry_first=0.3, retry_longest=0.5)) as (node, _, _):
                await node.stop()
                await self.until(lambda: self.rows(RelayUplink).filter(attempts__gte=2).exists(), "it is written")
                self.assertEqual(await self.read(lambda: self.rows(RelayUplink).count()), 1)
                await self.read(lambda: self.rows(RelayProcess).all().delete())
                await self.until(lambda: self.rows(RelayUplink).live().exists(), "a registry that forgot is told again")


class OutageTests(ReporterCase):
    async def test_an_outage_is_said_once_and_loses_nothing(self) -> None:
        broken = mock.patch.object(reports, "report_process", side_effect=DatabaseError("gone fishing"))
        async with EchoTarget() as target, self.reporting(target.address) as (node, _, reporter):
            await self.until(lambda: self.rows(RelaySession).exists(), "the first report")
            with self.assertLogs("tenants.bridge", "INFO") as logs:
                with broken as failing:
                    await self.carry(node)
                    await async_wait_until(lambda: failing.call_count > 3, "several attempts")
                    await self.carry(node)
                    calls = failing.call_count
                    await async_wait_until(lambda: failing.call_count > calls + 3, "several attempts more")
                    self.assertLessEqual(len(reporter._pending) + len(reporter._sending), 8)
                size = 2 * len(HEAD)
                await self.until(lambda: usage_of(self.alias, self.backend)[:4] == (2, 0, size, size), "all of it")
                await async_wait_until(lambda: not reporter._outage.lasts, "it is said")
            self.assertEqual(len(logs.records), 2)
            self.assertIn("do not reach the registry", logs.output[0])
            self.assertIn("reach the registry again", logs.output[1])

    async def test_a_commit_whose_answer_is_lost_counts_once(self) -> None:
        real, lost = reports.report_process, []

        def commit_and_fail(*args: Any, **kwargs: Any) -> Any:
            done = real(*args, **kwargs)
            if len(args) > 2 and args[2] is not None and len(lost) < 3:
                lost.append(args[2].number)
                raise DatabaseError("the connection broke after the commit")
            return done

        with self.assertLogs("tenants.bridge"), mock.patch.object(reports, "report_process", commit_and_fail):
            async with EchoTarget() as target, self.reporting(target.address) as (node, _, reporter):
                await self.carry(node)
                await async_wait_until(lambda: len(lost) == 3 and not reporter._sending, "it was tried again")
                await self.carry(node)
        self.assertEqual(lost, [lost[0]] * 3, "one batch, tried again")
        size = 2 * len(HEAD)
        self.assertEqual(await self.read(lambda: usage_of(self.alias, self.backend)[:4]), (2, 0, size, size))

    async def test_what_waits_is_bounded(self) -> None:
        reporter = Reporter(using=self.alias)
        with mock.patch.object(module, "MOST_PENDING", 3):
            for hour in range(100):
                reporter._add(7, datetime(2030, 1, 1 + hour // 24, hour % 24, tzinfo=UTC), Carried(1, 2, 3, 4, hour))
        self.assertEqual(len(reporter._pending), 3)
        self.assertEqual(sum(each.streams for each in reporter._pending.values()), 100)

    async def test_a_registry_that_forgot_everything_is_told_anew(self) -> None:
        async with self.reporting() as (_, _, _):
            await self.until(lambda: self.rows(RelaySession).exists(), "the session")
            await self.read(lambda: self.rows(RelayProcess).all().delete())
            await self.until(lambda: self.rows(RelaySession).live().exists(), "it is back")

    async def test_a_database_that_does_not_answer_keeps_no_relay_from_ending(self) -> None:
        stuck = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang(*args: Any) -> Any:
            asyncio.run_coroutine_threadsafe(stuck.wait(), loop).result()
            raise DatabaseError("late")

        with (
            mock.patch.multiple(module, SLOW_DATABASE_AFTER=0.1, LAST_WORDS=0.2),
            mock.patch.object(reports, "report_process", hang),
            self.assertLogs("tenants.bridge") as logs,
        ):
            async with self.reporting() as (_, _, reporter):
                await async_wait_until(lambda: reporter._outage.lasts, "it is said")
            stuck.set()
            await asyncio.wait({reporter._writing})
        self.assertEqual(len(logs.records), 1)

    async def test_no_database_at_the_start(self) -> None:
        with self.assertLogs("tenants.bridge"):
            async with EchoTarget() as target, self.reporting(target.address, using="nowhere") as (node, _, reporter):
                await async_wait_until(lambda: reporter._outage.lasts, "it is said")
                await self.carry(node)


class RotationTests(ReporterCase):
    async def test_a_new_secret_is_told_of_when_it_is_used(self) -> None:
        async with self.reporting(options={"secret": SECRET}) as (_, relay, reporter):
            await self.until(lambda: self.rows(CredentialUse).exists(), "the first use")
            (key, config), *_ = relay.config.backends.items()
            relay.apply(RelayConfig({key: replace(config, credential=HmacSecret("another-secret-of-the-same-node"))}))
            with mock.patch.object(reporter, "_write", wraps=reporter._write) as writes:
                await async_wait_until(lambda: writes.call_count >= 3, "it reports")
            session = await self.read(lambda: self.rows(RelaySession).get())
            self.assertEqual(session.fingerprint, fingerprint(SECRET), "no token was made with it yet")


class ServerOutageTests(ReporterCase):
    """The same with a PostgreSQL server that is killed and comes back."""

    def setUp(self) -> None:
        self.server = self.enterContext(migrated_server())
        self.alias = self.enterContext(postgres_database(self.server))
        self.backend = make_served_backend(make_tenant(self.alias), HOST, using=self.alias)
        connections[self.alias].close()

    async def test_what_is_carried_meanwhile_is_told_afterwards_once(self) -> None:
        async with EchoTarget() as target, self.reporting(target.address) as (node, _, reporter):
            await self.carry(node)
            await self.until(lambda: usage_of(self.alias, self.backend)[0] == 1, "the first stream")
            for round in (1, 2):
                with self.assertLogs("tenants.bridge", "INFO") as logs:
                    await asyncio.to_thread(self.server.halt)
                    for _ in range(3):
                        await self.carry(node)
                    await async_wait_until(lambda reporter=reporter: reporter._outage.lasts, "it is said")
                    await self.carry(node)
                    await asyncio.to_thread(self.server.start)
                    await async_wait_until(lambda reporter=reporter: not reporter._outage.lasts, "it is back")
                self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])
                streams = 1 + 4 * round
                await self.until(
                    lambda streams=streams: usage_of(self.alias, self.backend)[0] == streams, "all of them, once"
                )
                await self.until(lambda: self.rows(RelaySession).live().count() == 1, "the session is live")
