"""Tests of relay.sessions.usage: what a backend has carried, over streams and sessions that come and go."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay import RelayConfig
from relay.protocol.counters import Counters
from relay.sessions.usage import Usage, UsageBook, UsageTotals
from tests.support.pattern import pattern
from tests.support.relays import DIALECTS, HOST, on_both_loops, recorded_logs, running
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class UsageTests(SimpleTestCase):
    def test_sessions_that_live_and_that_ended_are_one_sum(self) -> None:
        usage, first, second = Usage(), Counters(), Counters()
        usage.session_begun(first)
        usage.session_begun(second)
        first.bytes_received, second.bytes_sent, second.streams_refused = 5, 7, 1
        self.assertEqual(usage.totals(), UsageTotals(0, 1, 5, 7))
        usage.session_ended(first)
        usage.session_ended(first)  # a second time changes nothing
        usage.session_ended(second)
        self.assertEqual(usage.totals(), UsageTotals(0, 1, 5, 7))
        self.assertTrue(usage.idle)

    def test_the_peak_is_that_since_the_last_question(self) -> None:
        usage = Usage()
        for _ in range(3):
            usage.entered()
        usage.left()
        self.assertEqual((usage.take_peak(), usage.take_peak()), (3, 2))
        self.assertFalse(usage.idle)

    def test_only_what_nothing_holds_is_forgotten(self) -> None:
        book, counters = UsageBook(), Counters()
        usage = book.of("a")
        usage.session_begun(counters)
        book.forget("a")
        self.assertIs(book.of("a"), usage)
        usage.session_ended(counters)
        book.forget("a")
        book.forget("never there")
        self.assertEqual(list(book), [])
        self.assertIsNot(book.of("a"), usage)

    @on_both_loops
    async def test_what_a_relay_carries(self) -> None:
        for dialect in DIALECTS:
            book = UsageBook()
            usage = book.of("app")
            async with EchoTarget() as target:
                async with running(target.address, dialect=dialect, usage=book) as (node, relay):
                    data = HEAD + pattern(50_000)
                    async with TcpUser(node.public_port()) as user:
                        await user.send(data)
                        self.assertEqual(await user.receive(len(data)), data)
                        self.assertEqual(usage.totals(), UsageTotals(1, 0, len(data), len(data)))
                        self.assertEqual((usage.live, usage.idle), (1, False))
                    await async_wait_until(lambda usage=usage: usage.live == 0, "the stream is gone")
                    self.assertEqual(usage.take_peak(), 1)
                    relay.apply(RelayConfig())
                    await async_wait_until(lambda usage=usage: usage.idle, "the session is over")
                self.assertEqual(usage.totals(), UsageTotals(1, 0, len(data), len(data)))

    @on_both_loops
    async def test_users_who_are_turned_away_are_counted(self) -> None:
        book = UsageBook()
        with recorded_logs():
            async with running("127.0.0.1:1", usage=book) as (node, _):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive_all()
                totals = book.of("app").totals()
                self.assertEqual((totals.streams, totals.refused, book.of("app").live), (0, 1, 0))
