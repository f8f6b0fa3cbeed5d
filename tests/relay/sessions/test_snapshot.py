"""Tests of relay.sessions.snapshot: sessions as those who report on them see them."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError, replace

from django.test import SimpleTestCase

from relay import Claims, HmacSecret, Relay, RelayConfig
from relay.devnode import DevNode
from tests.support.relays import (
    CLAIMS,
    DIALECTS,
    SECRET,
    backend_for,
    on_both_loops,
    quick,
    recorded_logs,
    running,
    session_of,
)
from tests.support.waiting import async_wait_until


class SnapshotTests(SimpleTestCase):
    @on_both_loops
    async def test_what_is_in_one(self) -> None:
        for dialect in DIALECTS:
            async with running("127.0.0.1:9", dialect=dialect) as (node, relay):
                ((backend, found),) = relay.sessions()
                self.assertEqual(backend, relay.config.backends["app"])
                self.assertEqual((found.node, found.state, found.dialect), (node.address, "up", dialect))
                self.assertEqual((found.claims, found.streams), (CLAIMS, 0))
                self.assertIs(found.credential, backend.credential)
                self.assertGreater(found.age, 0)
                self.assertIsNotNone(found.authenticated_at)
                ((_, again),) = relay.sessions()
                self.assertEqual(again.number, found.number)
                with self.assertRaises(FrozenInstanceError):
                    found.state = "other"  # type: ignore[misc]

    @on_both_loops
    async def test_one_that_ends_while_they_are_looked_at_is_left_out(self) -> None:
        with recorded_logs():
            async with running("127.0.0.1:9") as (_, relay):
                session, looking = session_of(relay), relay.sessions()
                relay.apply(RelayConfig())
                await async_wait_until(session.ended.done, "its end")
                self.assertEqual(list(looking), [])

    async def test_a_relay_that_does_not_run_has_none(self) -> None:
        self.assertEqual(list(Relay().sessions()), [])


class UplinkTests(SimpleTestCase):
    @on_both_loops
    async def test_attempts_that_fail_with_the_words_of_the_log_and_the_next_try(self) -> None:
        patient = quick(retry_first=1000.0, retry_longest=1000.0, retry_least=900.0)
        with recorded_logs() as logs:
            async with DevNode(secret=SECRET) as node:
                backend = backend_for(node)
                await node.stop()
                async with Relay([backend], timings=patient) as relay:
                    await async_wait_until(lambda: relay.statuses()[0][1].state == "waiting", "the back-off")
                    now = asyncio.get_running_loop().time()
                    ((of, found),) = relay.statuses()
                    self.assertEqual((of, found.node, found.attempts), (backend, node.address, 1))
                    self.assertIn(found.problem, logs.text())
                    self.assertIn("nothing listens", found.problem)
                    self.assertLessEqual(found.since, now)
                    self.assertGreater(found.next_try, now + 800)
                    relay.retry_now()
                    await async_wait_until(lambda: relay.statuses()[0][1].attempts == 2, "another attempt")
                    self.assertEqual(relay.statuses()[0][1].since, found.since, "down for as long")
                    await node.start()
                    relay.retry_now()
                    await relay.wait_up(10)
                    ((_, up),) = relay.statuses()
                    self.assertEqual((up.state, up.problem, up.attempts, up.next_try), ("up", "", 0, None))
                    self.assertGreater(up.since, found.since)
                    node.drop_sessions()
                    await async_wait_until(lambda: relay.statuses()[0][1].state == "waiting", "the loss")
                    ((_, lost),) = relay.statuses()
                    self.assertEqual(lost.attempts, 0, "a session that was lost is no attempt that failed")
                    self.assertGreater(lost.since, up.since)

    @on_both_loops
    async def test_a_refusal_is_a_state_of_its_own(self) -> None:
        with recorded_logs():
            async with DevNode(secret=SECRET, dialect="attested") as node:
                backend = backend_for(node, credential=HmacSecret("wrong-secret-wrong-secret-wrong-32"))
                node.faults.refuse_reason = "not today"
                async with Relay([backend], timings=quick()) as relay:
                    await async_wait_until(lambda: relay.statuses()[0][1].state == "refused", "the refusal")
                    self.assertIn("not today", relay.statuses()[0][1].problem)

    @on_both_loops
    async def test_an_edit_that_is_refused_is_told_until_it_is_taken_back(self) -> None:
        with recorded_logs():
            async with running("127.0.0.1:9") as (node, relay):
                node.faults.refuse_reason = "not today"
                before = relay.config.backends["app"]
                ((_, up),) = relay.statuses()
                wanted = replace(before, claims=Claims(hostnames=(*CLAIMS.hostnames, "more.example.com")))
                relay.apply(RelayConfig({"app": wanted}))
                await async_wait_until(lambda: relay.statuses()[0][1].problem, "the refusal")
                ((_, found),) = relay.statuses()
                self.assertEqual((found.state, found.since), ("up", up.since))
                relay.apply(RelayConfig({"app": before}))
                await async_wait_until(lambda: not relay.statuses()[0][1].problem, "what is configured is served")
                self.assertIsNone(relay.statuses()[0][1].next_try)
