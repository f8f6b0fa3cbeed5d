"""Tests of relay.sessions.session: handshakes, endings, re-authentication, garbage."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import (
    BackendConfig,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    Relay,
    RelayConfig,
    Timings,
    TokenCommand,
)
from relay.devnode import GARBAGE, DevNode, mint_token
from relay.protocol.events import EndKind
from relay.protocol.messages import Connect, Disconnect, encode
from relay.protocol.times import ProtocolTimes
from relay.sessions.phases import SessionPhase
from relay.sessions.session import COSTLY_A_TURN
from tests.relay.sessions.test_tcp_stream import echo_once
from tests.support.pattern import pattern
from tests.support.relays import (
    DIALECTS,
    HOST,
    SECRET,
    Leaks,
    backend_for,
    on_both_loops,
    presigned,
    quick,
    recorded_logs,
    runner_of,
    running,
    session_of,
)
from tests.support.targets import EchoTarget, HttpTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")

NEVER_UP = quick(confirmed_after=3600.0)
"""Silence of a busy node is not taken for its consent."""


def config_of(*backends: BackendConfig) -> RelayConfig:
    """A relay's configuration."""
    return RelayConfig(MappingProxyType({backend.key: backend for backend in backends}))


def problem_of(relay: Relay) -> str:
    """What the one uplink says is wrong."""
    ((_, status),) = relay.statuses()
    return status.problem


class HandshakeTests(SimpleTestCase):
    async def _problem(self, node: DevNode, timings: Timings | None = None, **changes: Any) -> str:
        """The trouble that a relay has with this node, whose session must not come up."""
        leaks = Leaks()
        with recorded_logs():
            async with Relay([backend_for(node, "127.0.0.1:9", **changes)], timings=timings or NEVER_UP) as relay:
                await async_wait_until(lambda: problem_of(relay), "a problem", timeout=10)
                self.assertNotEqual(relay.statuses()[0][1].state, "up")
                problem = problem_of(relay)
        await leaks.check()
        return problem

    @on_both_loops
    async def test_both_dialects_come_up_and_end_cleanly(self) -> None:
        for dialect in DIALECTS:
            async with running("127.0.0.1:9", dialect=dialect) as (node, relay):
                (session,) = await node.wait_for_sessions(1)
                self.assertEqual(session.hostnames, (HOST,))
                await relay.stop()
                await node.wait_for_sessions(0)
                self.assertEqual((node.dead_sessions, node.counters.refusals), ((), 0))

    @on_both_loops
    async def test_a_credential_of_the_other_dialect_is_told_in_words(self) -> None:
        async with DevNode(dialect="attested", secret=SECRET) as node:
            problem = await self._problem(node, credential=PresignedToken(mint_token(SECRET, [HOST])))
            self.assertIn("node demands attestation: give this backend an HMAC secret or a command", problem)
        async with DevNode(dialect="token", secret=SECRET) as node:
            timings = replace(NEVER_UP, protocol=ProtocolTimes(challenge_timeout=0.1))
            problem = await self._problem(node, timings, credential=HmacSecret(SECRET))
            self.assertIn("older than attestation", problem)
            # The node had taken the session: it must not keep it as a dead one.
            self.assertEqual((node.dead_sessions, node.sessions), ((), ()))

    @on_both_loops
    async def test_refusals_say_why(self) -> None:
        for dialect in DIALECTS:
            async with DevNode(dialect=dialect, secret="another-secret-another-secret-32b") as node:
                self.assertIn("signature is invalid", await self._problem(node))
            async with DevNode(dialect=dialect, secret=SECRET) as node:
                node.faults.refuse_reason = "words " * 30  # does not fit into a Close
                self.assertIn("right after its token", await self._problem(node))
        async with DevNode(dialect="token", secret=SECRET) as node:
            problem = await self._problem(node, credential=presigned(lifetime=-60))
            self.assertIn("token is expired", problem)
            self.assertIn("this token expired", problem)

    @on_both_loops
    async def test_tokens_that_can_not_be_had(self) -> None:
        async with DevNode(secret=SECRET) as node:
            for credential, words in (
                (HmacSecretFile("/nonexistent/key"), "/nonexistent/key"),
                (TokenCommand("/nonexistent/command"), "/nonexistent/command"),
                (TokenCommand("/bin/false"), "exit status 1"),
                (None, "credential"),
            ):
                self.assertIn(words, await self._problem(node, credential=credential))

    @on_both_loops
    async def test_a_token_source_that_breaks(self) -> None:
        async def broken(*args: object) -> str:
            raise KeyError("top-secret")

        with (
            mock.patch("relay.supervision.backend_runner.token_source", lambda backend: broken),
            recorded_logs() as logs,
        ):
            async with DevNode(secret=SECRET) as node, Relay([backend_for(node)], timings=quick()) as relay:
                await async_wait_until(lambda: problem_of(relay), "a problem")
                self.assertIn("internal error (KeyError)", problem_of(relay))
        self.assertNotIn("top-secret", logs.text())

    @on_both_loops
    async def test_a_session_that_breaks_is_tried_again(self) -> None:
        with recorded_logs() as logs:
            async with DevNode(secret=SECRET) as node, Relay(timings=quick()) as relay:
                with mock.patch("relay.sessions.session.SessionCore.start", side_effect=RuntimeError("a bug")):
                    relay.apply(config_of(backend_for(node)))
                    await async_wait_until(lambda: "internal error" in problem_of(relay), "the bug")
                await relay.wait_up(10)
        self.assertIn("session broke", logs.text())


class GarbageTests(SimpleTestCase):
    @on_both_loops
    async def test_garbage_is_ignored_or_ends_the_session_cleanly(self) -> None:
        leaks = Leaks()
        for dialect in DIALECTS:
            async with EchoTarget() as target:
                with recorded_logs():
                    async with running(target.address, dialect=dialect) as (node, relay):
                        for name in GARBAGE:
                            await relay.wait_up(10)
                            session = session_of(relay)
                            async with TcpUser(node.public_port()) as user:
                                await user.send(HEAD)
                                self.assertEqual(await user.receive(len(HEAD)), HEAD)
                                node.send_garbage(name)
                                if name in ("oversize", "bad_continuation"):
                                    await asyncio.wait_for(asyncio.shield(session.ended), 5)
                                    self.assertIn("broke the protocol", session.ended.result().message)
                                    uplink = runner_of(relay).uplinks[node.address]
                                    await async_wait_until(lambda k=uplink, s=session: k.current not in (s, None), "up")
                                else:
                                    await user.send(pattern(1000))
                                    self.assertEqual(await user.receive(1000), pattern(1000), name)
                                    self.assertFalse(session.ended.done(), name)
        await leaks.check()

    @on_both_loops
    async def test_data_for_an_unknown_stream_is_answered_once(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, _):
            node.send_garbage("unknown_stream")
            await async_wait_until(lambda: node.counters.unknown_disconnects, "the answers")
            self.assertTrue((await http_get(node.public_port(), HOST)).ok)
            # Each of the three had an id of its own or the same one; never more than one answer for each.
            self.assertLessEqual(node.counters.unknown_disconnects, 3)

    @on_both_loops
    async def test_a_user_whose_connect_got_lost_is_let_go(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, _):
            node.faults.drop_connects = 1
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                self.assertEqual(await user.receive_all(), b"")
            self.assertEqual(node.counters.disconnect_reasons.get("unknown"), 1)
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                self.assertEqual(await user.receive(len(HEAD)), HEAD)

    @on_both_loops
    async def test_a_storm_of_connects_and_disconnects_leaves_few_targets(self) -> None:
        async with EchoTarget() as target, running(target.address) as (_, relay):
            session = session_of(relay)
            with mock.patch("relay.sessions.opener.MAX_LIVE", 5):
                for _ in range(50):
                    stream_id = uuid.uuid4()
                    connect = Connect(stream_id.bytes, hostname=HOST, conn_port=80, credits=64)
                    session.binary_received(b"\x02" + encode(connect))
                    session.binary_received(b"\x01" + stream_id.bytes + b"data")
                    session.binary_received(b"\x02" + encode(Disconnect(stream_id.bytes)))
                session.batch_received()
                self.assertEqual(len(session.live), 5)
                await async_wait_until(lambda: not session.live, "the targets' end")

    @on_both_loops
    async def test_a_turn_of_the_loop_begins_and_ends_few_streams(self) -> None:
        async with EchoTarget() as target, running(target.address) as (_, relay):
            session = session_of(relay)
            connects = [Connect(uuid.uuid4().bytes, hostname=HOST, conn_port=80) for _ in range(COSTLY_A_TURN)]
            for ends in (False, True):
                messages = [Disconnect(connect.stream_id) if ends else connect for connect in connects]
                enough = [session.binary_received(b"\x02" + encode(message)) for message in messages]
                self.assertEqual(enough, [False] * (COSTLY_A_TURN - 1) + [True])
                self.assertFalse(session.binary_received(b"\x01" + connects[0].stream_id + b"data"))
                session.batch_received()
            await async_wait_until(lambda: not session.live, "the targets' end")


class LossTests(SimpleTestCase):
    @on_both_loops
    async def test_targets_of_a_lost_session_are_reset(self) -> None:
        """A cut upload must not look like a whole one."""
        for dialect in DIALECTS:
            ends: list[str] = []

            class Watching(EchoTarget):
                async def serve(
                    self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[str] = ends
                ) -> None:
                    try:
                        while await reader.read(65536):
                            pass
                        ends.append("eof")
                    except ConnectionResetError:
                        ends.append("reset")

            async with Watching() as target, running(target.address, dialect=dialect) as (node, relay):
                with recorded_logs():
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        session = session_of(relay)
                        await async_wait_until(lambda s=session: s.core.counters.data_received, "data")
                        await async_wait_until(lambda t=target: t.open, "the target")
                        node.drop_sessions()
                        await async_wait_until(lambda e=ends: e, "the target's end")
                        self.assertEqual(ends, ["reset"])
                    self.assertIs(session.ended.result().kind, EndKind.LOST)
                    await relay.wait_up(10)
                    self.assertIsNot(session_of(relay), session)

    @on_both_loops
    async def test_a_node_that_hangs_is_given_up_and_found_again(self) -> None:
        timings = quick(ping_interval=0.05, dead_after=1.0)
        with recorded_logs():
            async with HttpTarget() as target, running(target.address, timings=timings) as (node, relay):
                session = session_of(relay)
                node.freeze()
                await async_wait_until(session.ended.done, "the end of the frozen session", timeout=10)
                self.assertIn("no frame and no pong", session.ended.result().message)
                node.thaw()
                await relay.wait_up(10)
                for frozen in node.dead_sessions:
                    frozen.bury()

    @on_both_loops
    async def test_users_who_come_while_it_drains_are_served(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                await user.receive(len(HEAD))
                session = session_of(relay)
                stopping = asyncio.create_task(relay.stop(20))
                await async_wait_until(lambda: session.phase is SessionPhase.DRAINING, "the drain")
                async with TcpUser(node.public_port()) as late:
                    await late.send(HEAD)
                    self.assertEqual(await late.receive(len(HEAD)), HEAD)
                await user.send(b"still here")
                self.assertEqual(await user.receive(10), b"still here")
                self.assertFalse(stopping.done())
            await stopping
            self.assertEqual((node.counters.streams_cut, node.dead_sessions), (0, ()))


class HealthTests(SimpleTestCase):
    CHECKS = HealthCheckOptions(inactivity_timeout=0.1, pong_timeout=0.1)

    @on_both_loops
    async def test_a_zombie_is_found(self) -> None:
        async with EchoTarget() as target, running(target.address, health_checks=self.CHECKS) as (node, relay):
            node.faults.drop_disconnects = 1
            async with TcpUser(node.public_port()) as user:
                await echo_once(user, HEAD)
            session = session_of(relay)
            await async_wait_until(lambda: session.core.counters.health_timeouts == 1, "the zombie's end")
            await async_wait_until(lambda: not relay.stats().held and not target.open, "its target's end")

    @on_both_loops
    async def test_an_idle_stream_that_the_node_knows_lives_on(self) -> None:
        async with EchoTarget() as target, running(target.address, health_checks=self.CHECKS) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await echo_once(user, HEAD)
                await async_wait_until(lambda: node.counters.pongs >= 3, "pongs")
                self.assertEqual(await echo_once(user, HEAD), HEAD)
                self.assertEqual(session_of(relay).core.counters.health_timeouts, 0)

    @on_both_loops
    async def test_a_node_that_stalls_for_a_while_costs_no_stream(self) -> None:
        async with EchoTarget() as target, running(target.address, health_checks=self.CHECKS) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await echo_once(user, HEAD)
                core = session_of(relay).core
                node.freeze()
                await async_wait_until(lambda: core.wants_answer, "a pong that is due")
                node.thaw()
                await async_wait_until(lambda: not core.wants_answer, "the node's answer")
                self.assertEqual(await echo_once(user, HEAD), HEAD)
                self.assertEqual(core.counters.health_timeouts, 0)

    @on_both_loops
    async def test_changed_times_serve_the_session_that_stands(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await echo_once(user, HEAD)
                (backend,) = relay.config.backends.values()
                session = session_of(relay)
                config = replace(relay.config, backends={"app": replace(backend, health_checks=self.CHECKS)})
                relay.apply(config)
                await async_wait_until(lambda: node.counters.pongs, "a pong")
                self.assertIs(session_of(relay), session)
