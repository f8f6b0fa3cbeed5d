"""Tests of relay.limits.quota: the limits of live streams."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace
from unittest import mock

from django.test import SimpleTestCase

from relay import RelayConfig
from relay.config import Limits
from relay.devnode import DevNode
from relay.limits.pacing import Pacer
from relay.limits.quota import LEAST_OWED, Allowance, Gate, ProcessBounds
from relay.sessions.session import Session
from tests.support.pattern import pattern, pattern_hash
from tests.support.relays import (
    HOST,
    backend_for,
    inside_of,
    on_both_loops,
    recorded_logs,
    routes_to,
    runner_of,
    running,
    session_of,
    udp_claims,
)
from tests.support.targets import EchoTarget, HttpTarget, UdpEchoTarget
from tests.support.users import TcpUser, UdpUser, download, request_head, upload
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class AllowanceTests(SimpleTestCase):
    """Allowances and gates by themselves."""

    async def test_streams_up_to_the_bound(self) -> None:
        allowance = Allowance("backend app", Limits(max_streams=2))
        for streams, said in ((0, ""), (1, ""), (2, "backend app has its 2 streams (max_streams)")):
            allowance.streams = streams
            self.assertEqual(allowance.refusal(), said)
        free = Allowance("backend app", Limits())
        free.streams = 10**9
        self.assertEqual(free.refusal(), "")

    async def test_each_direction_owes_by_its_own_rate(self) -> None:
        slow, fast = 1_000, 1_000_000
        for limits, taken, sent in (
            (Limits(upload_rate=slow), LEAST_OWED, 10**12),
            (Limits(download_rate=slow), 10**12, LEAST_OWED),
            (Limits(upload_rate=fast, download_rate=slow), 10_000_000, LEAST_OWED),
            (Limits(upload_rate=slow, download_rate=fast), LEAST_OWED, 10_000_000),
        ):
            with self.subTest(limits):
                allowance = Allowance("tenant shop", limits)
                allowance.owed_upload, allowance.owed_download = taken, sent
                self.assertEqual(allowance.refusal(), "")
                if limits.upload_rate:
                    allowance.owed_upload += 1
                    said = f"taken more from users than its {limits.upload_rate} bytes a second (upload_rate)"
                    self.assertEqual(allowance.refusal(), f"tenant shop has {said}")
                    allowance.owed_upload -= 1
                if limits.download_rate:
                    allowance.owed_download += 1
                    said = f"sent users more than its {limits.download_rate} bytes a second (download_rate)"
                    self.assertEqual(allowance.refusal(), f"tenant shop has {said}")

    async def test_new_streams_cost_a_token_each_and_the_clock_gives_them_back(self) -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "time", return_value=100.0) as clock:
            allowance = Allowance("backend app", Limits(streams_per_second=2))
            said = "backend app has had its 2 new streams a second (streams_per_second)"
            self.assertEqual([allowance.refusal() for _ in range(3)], ["", "", said])
            clock.return_value = 100.5
            self.assertEqual([allowance.refusal() for _ in range(2)], ["", said])
            self.assertTrue(allowance.change(Limits()))
            self.assertEqual([allowance.refusal() for _ in range(9)], [""] * 9)

    async def test_only_other_limits_are_a_change(self) -> None:
        limits = Limits(max_streams=1, upload_rate=5, download_rate=7)
        allowance = Allowance("backend app", limits)
        self.assertFalse(allowance.change(replace(limits)))
        self.assertEqual((allowance.upload._bucket.rate, allowance.download._bucket.rate), (5, 7))
        self.assertTrue(allowance.change(Limits(upload_rate=9)))
        self.assertEqual((allowance.upload._bucket.rate, allowance.download._bucket.rate), (9, 0))
        self.assertEqual(allowance.limits, Limits(upload_rate=9))

    async def test_a_gate_counts_for_all_and_names_the_first_that_refuses(self) -> None:
        said = ["the process is full"]
        backend, tenant = (
            Allowance("backend app", Limits(max_streams=2)),
            Allowance("tenant shop", Limits(max_streams=1)),
        )
        gate = Gate((backend, tenant), lambda: said[0])
        self.assertEqual(gate.refusal(), "the process is full")
        said[0] = ""
        self.assertEqual(gate.refusal(), "")
        gate.enter()
        self.assertEqual(gate.refusal(), "tenant shop has its 1 streams (max_streams)")
        gate.enter()
        self.assertEqual(gate.refusal(), "backend app has its 2 streams (max_streams)")
        gate.leave()
        gate.owe(3, 4)
        gate.owe(-1, 5)
        for allowance in (backend, tenant):
            self.assertEqual((allowance.streams, allowance.owed_upload, allowance.owed_download), (1, 2, 9))

    async def test_a_gate_paces_where_a_rate_is_set(self) -> None:
        backend, tenant = Allowance("backend app", Limits()), Allowance("tenant shop", Limits(upload_rate=5))
        gate = Gate((backend, tenant), str)
        self.assertIsNotNone(gate.upload)
        self.assertIsNone(gate.download)
        tenant.change(Limits())
        backend.change(Limits(download_rate=5))
        gate.changed()
        self.assertIsNone(gate.upload)
        self.assertIsNotNone(gate.download)

    def test_many_sessions_leave_fewer_streams(self) -> None:
        with mock.patch("resource.getrlimit", return_value=(1024, 1024)):
            bounds = ProcessBounds()
            self.assertEqual([bounds.streams(number) for number in (0, 128, 500, 5000)], [768, 768, 396, 1])
            self.assertEqual(ProcessBounds(max_streams=100).streams(500), 100)

    async def test_what_is_within_the_bounds_comes(self) -> None:
        allowance = Allowance("backend app", Limits(upload_rate=1, download_rate=1))
        self.assertEqual(allowance.refusal(), "")
        self.assertEqual((LEAST_OWED, ProcessBounds().max_buffered), (2_097_152, 536_870_912))

    def test_files_without_a_bound_leave_streams_without_one(self) -> None:
        with mock.patch("resource.getrlimit", return_value=(resource.RLIM_INFINITY, resource.RLIM_INFINITY)):
            self.assertEqual(ProcessBounds().streams(10**6), 2**31)
            self.assertEqual(ProcessBounds(max_streams=7).streams(), 7)
        with mock.patch("resource.getrlimit", return_value=(1024, 4096)):
            self.assertEqual(ProcessBounds(max_streams=10**6).streams(), 768)


class StreamLimitTests(SimpleTestCase):
    async def _echoes(self, user: TcpUser) -> bool:
        await user.send(HEAD)
        try:
            return await user.receive(len(HEAD)) == HEAD
        except asyncio.IncompleteReadError:
            return False

    @on_both_loops
    async def test_streams_at_once(self) -> None:
        with recorded_logs() as logs:
            async with EchoTarget() as target, running(target.address, limits=Limits(max_streams=1)) as (node, relay):
                async with TcpUser(node.public_port()) as first:
                    self.assertTrue(await self._echoes(first))
                    async with TcpUser(node.public_port()) as second:
                        self.assertFalse(await self._echoes(second))
                    self.assertEqual(node.counters.disconnect_reasons.get("buffer_full"), 1)
                    self.assertEqual(session_of(relay).totals.over_limit, 1)
                    first.send_eof()
                    self.assertEqual(await first.receive_all(), b"")
                await async_wait_until(lambda: not session_of(relay).live, "the first stream's end")
                async with TcpUser(node.public_port()) as third:
                    self.assertTrue(await self._echoes(third))
                # An edit counts at once, and what lives stays counted.
                relay.apply(RelayConfig({"app": backend_for(node, target.address)}))
                async with TcpUser(node.public_port()) as a, TcpUser(node.public_port()) as b:
                    self.assertEqual([await self._echoes(a), await self._echoes(b)], [True, True])
        self.assertIn("backend app has its 1 streams (max_streams)", logs.text())

    @on_both_loops
    async def test_new_streams_a_second(self) -> None:
        async with EchoTarget() as target:
            async with running(target.address, limits=Limits(streams_per_second=2)) as (node, relay):
                with mock.patch("relay.limits.rate_limit.TokenBucket._refill", lambda bucket, now: None):
                    answers = []
                    for _ in range(4):
                        async with TcpUser(node.public_port()) as user:
                            answers.append(await self._echoes(user))
                self.assertEqual(answers, [True, True, False, False])
                self.assertEqual(session_of(relay).totals.over_limit, 2)

    @on_both_loops
    async def test_backends_of_a_tenant_share_its_limits(self) -> None:
        shared = {"tenant": "shop", "tenant_limits": Limits(max_streams=1)}
        async with EchoTarget() as target, running(target.address, **shared) as (node, relay):
            one = backend_for(node, target.address, **shared)
            other = replace(one, key="other", name="other", claims=replace(one.claims, hostnames=("b.example.com",)))
            relay.apply(RelayConfig({"app": one, "other": other}))
            await relay.wait_up(10)
            async with TcpUser(node.public_port()) as first, TcpUser(node.public_port()) as second:
                self.assertTrue(await self._echoes(first))
                head = request_head("b.example.com", "/")
                await second.send(head)
                self.assertEqual(await second.receive_all(), b"")

    @on_both_loops
    async def test_bytes_are_paced_and_whole(self) -> None:
        limits = Limits(upload_rate=40_000_000, download_rate=40_000_000)
        paid = {}
        pay = Pacer.pay

        def counted(pacer: Pacer, size: int, done) -> bool:
            paid[pacer] = paid.get(pacer, 0) + size
            return pay(pacer, size, done)

        with mock.patch.object(Pacer, "pay", counted):
            async with HttpTarget() as target, running(target.address, limits=limits) as (node, relay):
                whole = await asyncio.gather(*(download(node.public_port(), HOST, 1_000_000) for _ in range(4)))
                self.assertEqual({part.sha256 for part in whole}, {pattern_hash(1_000_000)})
                done = await asyncio.gather(*(upload(node.public_port(), HOST, 1_000_000) for _ in range(4)))
                self.assertEqual(done, [b"OK\n"] * 4)
                self.assertEqual(target.sinks, [pattern_hash(1_000_000)] * 4)
                counters = session_of(relay).core.counters
        self.assertEqual(sum(paid.values()), counters.bytes_sent + counters.bytes_received)

    @on_both_loops
    async def test_short_streams_one_after_another_do_not_get_round_a_rate(self) -> None:
        with mock.patch("relay.limits.quota.LEAST_OWED", 100_000), recorded_logs() as logs:
            async with EchoTarget() as target, running(target.address, limits=Limits(upload_rate=1)) as (node, relay):
                sent = 0
                while not session_of(relay).totals.over_limit:
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD + pattern(50_000))
                        user.send_eof()
                        await user.receive_all()
                    await async_wait_until(lambda: not session_of(relay).live, "the stream's end")
                    sent += 1
                    self.assertLess(sent, 10)
                self.assertIn("taken more from users than its 1 bytes a second (upload_rate)", logs.text())
                # What is owed goes with the limit; nothing is counted twice.
                relay.apply(RelayConfig({"app": backend_for(node, target.address)}))
                allowance = runner_of(relay)._allowance
                self.assertEqual((allowance.owed_upload, allowance.owed_download), (0, 0))
                async with TcpUser(node.public_port()) as user:
                    self.assertTrue(await self._echoes(user))

    @on_both_loops
    async def test_datagrams_that_are_not_paid_for_are_dropped_both_ways(self) -> None:
        node_options = {"udp_ports": {5353: 0}}
        async with DevNode(**node_options) as probe:
            claims = udp_claims(probe)
        for limits, arrived in ((Limits(upload_rate=1), 3), (Limits(download_rate=1), 8)):
            async with UdpEchoTarget() as target:
                given = {"claims": claims, "routes": routes_to(target.address, port=5353, transport="udp")}
                async with running(**given, options=node_options, limits=limits) as (node, relay):
                    await self._send_eight_of_which_three_are_paid_for(node, session_of(relay))
                    self.assertEqual(len(target.received), arrived)

    async def _send_eight_of_which_three_are_paid_for(self, node: DevNode, session: Session) -> None:
        async with UdpUser(node.public_port("udp")) as user:
            for number in range(1, 9):
                user.send(pattern(30_000))
                await async_wait_until(lambda n=number: session.core.counters.data_received == n, "a datagram")
            await async_wait_until(lambda: session.totals.datagrams_dropped == 5, "what was not paid for")

    @on_both_loops
    async def test_a_limit_of_a_tenant_reaches_backends_that_are_not_edited(self) -> None:
        async with EchoTarget() as target, running(target.address, tenant="shop") as (node, relay):
            backends = {key: replace(backend_for(node, target.address, tenant="shop"), key=key) for key in ("app", "b")}
            relay.apply(RelayConfig(backends))
            # As where the rows of the other can not be read any more: it keeps what it has.
            limited = replace(backends["b"], tenant_limits=Limits(download_rate=10_000_000))
            relay.apply(RelayConfig(backends | {"b": limited}))
            self.assertIsNotNone(runner_of(relay).gate.download)

    @on_both_loops
    async def test_an_edit_that_changes_no_limit_looks_at_no_other_backend(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            backends = {key: replace(backend_for(node, target.address), key=key) for key in ("app", "b", "c")}
            relay.apply(RelayConfig(backends))
            with mock.patch("relay.limits.quota.Gate.changed", autospec=True) as changed:
                relay.apply(RelayConfig(backends | {"b": replace(backends["b"], routes=routes_to("127.0.0.1:9"))}))
            self.assertEqual(changed.call_count, 1)

    @on_both_loops
    async def test_a_process_that_is_full_refuses_new_streams_alone(self) -> None:
        async with EchoTarget() as target:
            async with running(target.address, bounds=ProcessBounds(max_streams=1)) as (node, relay):
                async with TcpUser(node.public_port()) as first, TcpUser(node.public_port()) as second:
                    self.assertTrue(await self._echoes(first))
                    self.assertFalse(await self._echoes(second))
                    self.assertTrue(await self._echoes(first))
                    self.assertEqual(session_of(relay).totals.over_limit, 1)

    @on_both_loops
    async def test_what_waits_for_targets_is_bounded_in_a_process(self) -> None:
        async with EchoTarget() as target:
            async with running(target.address, bounds=ProcessBounds(max_buffered=1000)) as (node, relay):
                async with TcpUser(node.public_port()) as first, TcpUser(node.public_port()) as second:
                    self.assertTrue(await self._echoes(first))
                    (stream,) = session_of(relay).live
                    stream.queued = 2000
                    inside_of(relay)._admission._looked_at = -1.0
                    self.assertFalse(await self._echoes(second))
                    stream.queued = 0
                    self.assertTrue(await self._echoes(first))
