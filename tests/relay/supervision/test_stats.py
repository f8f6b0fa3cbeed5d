"""Tests of relay.supervision.stats: snapshots of what a relay is doing."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay import Relay, RelayConfig
from tests.support.pattern import pattern
from tests.support.relays import DIALECTS, HOST, on_both_loops, recorded_logs, running, session_of, uplink_of
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class StatsTests(SimpleTestCase):
    @on_both_loops
    async def test_sessions_and_streams_with_their_bytes(self) -> None:
        for dialect in DIALECTS:
            async with EchoTarget() as target, running(target.address, dialect=dialect) as (node, relay):
                stats = relay.stats()
                self.assertEqual((stats.streams, [backend.key for backend in stats.backends]), (0, ["app"]))
                data = HEAD + pattern(50_000)
                async with TcpUser(node.public_port()) as user:
                    await user.send(data)
                    self.assertEqual(await user.receive(len(data)), data)
                    stats = relay.stats()
                    (backend,) = stats.backends
                    self.assertEqual(dict(backend.nodes), {node.address: "up"})
                    (session,) = backend.sessions
                    self.assertEqual((session.node, session.state, session.dialect), (node.address, "up", dialect))
                    (stream,) = session.streams
                    self.assertEqual((stream.bytes_received, stream.bytes_sent), (len(data), len(data)))
                    self.assertEqual((stream.stream.hostname, stream.stream.target), (HOST, target.address))
                    self.assertEqual((stream.stream.client_address, stream.waiting), (user.address, 0))
                    self.assertTrue(0 <= stream.seconds <= session.seconds)
                    counters = session.counters
                    self.assertEqual((counters["streams_opened"], counters["bytes_received"]), (1, len(data)))
                    self.assertEqual(counters["dials_failed"], 0)
                await async_wait_until(lambda: relay.stats().streams == 0, "the stream's end")

    @on_both_loops
    async def test_what_drains_is_in_it_until_it_has_ended(self) -> None:
        with recorded_logs():
            async with EchoTarget() as target, running(target.address) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    relay.apply(RelayConfig())
                    await async_wait_until(
                        lambda: (
                            [s.state for backend in relay.stats().backends for s in backend.sessions] == ["draining"]
                        ),
                        "the drain",
                    )
                    self.assertEqual(relay.stats().streams, 1)
                await async_wait_until(lambda: not relay.stats().backends, "the drain's end")

    @on_both_loops
    async def test_totals_outlast_sessions_and_a_removal(self) -> None:
        with recorded_logs():
            async with running("127.0.0.1:9") as (node, relay):
                self.assertEqual((await http_get(node.public_port(), HOST)).status, 0)
                (backend,) = relay.stats().backends
                self.assertEqual(dict(backend.totals.errors), {"dials_failed": 1})
                before = session_of(relay)
                node.drop_sessions()
                await async_wait_until(lambda: uplink_of(relay).current not in (before, None), "another session")
                self.assertEqual((await http_get(node.public_port(), HOST)).status, 0)
                (backend,) = relay.stats().backends
                self.assertEqual((backend.totals.connects, backend.totals.reconnects), (2, 1))
                self.assertEqual(dict(backend.totals.errors), {"lost": 1, "dials_failed": 2})
                config = relay.config
                relay.apply(RelayConfig())
                await async_wait_until(lambda: not relay.stats().backends, "the end of the drain")
                relay.apply(config)
                await relay.wait_up(10)
                (backend,) = relay.stats().backends
                self.assertEqual((backend.totals.connects, backend.totals.reconnects), (3, 1))
                self.assertEqual(dict(backend.totals.errors), {"lost": 1, "dials_failed": 2})

    async def test_a_relay_that_does_not_run_has_none(self) -> None:
        self.assertEqual(Relay().stats().backends, ())
