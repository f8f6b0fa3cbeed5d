"""Tests of relay.sessions.snapshot: sessions as those who report on them see them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from django.test import SimpleTestCase

from relay import Relay, RelayConfig
from tests.support.relays import CLAIMS, DIALECTS, on_both_loops, recorded_logs, running, session_of
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
