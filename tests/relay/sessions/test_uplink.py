"""Tests of relay.sessions.uplink: back-off, refusals, replacing sessions, restarts of the node."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import replace
from types import MappingProxyType
from unittest import mock

from django.test import SimpleTestCase

from relay import BackendConfig, Claims, HmacSecret, PortOptions, PortRoutes, Relay, RelayConfig, RouteTable
from relay.config import Removal, RemovalMode
from relay.config.port_options import AccessList
from relay.devnode import DevNode
from relay.protocol.events import EndKind
from relay.protocol.messages import Connect, encode
from relay.sessions.phases import SessionPhase
from relay.sessions.session import Session
from relay.sessions.uplink import nobody_comes
from relay.tokens.sources import session_claims
from tests.support.pattern import pattern
from tests.support.relays import (
    CLAIMS,
    DIALECTS,
    HOST,
    SECRET,
    Leaks,
    backend_for,
    credential_for,
    on_both_loops,
    presigned,
    quick,
    recorded_logs,
    runner_of,
    running,
    session_of,
    sessions_of,
    uplink_of,
)
from tests.support.targets import EchoTarget, HttpTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")
OTHER = "more.example.com"
MORE = Claims(hostnames=(HOST, OTHER))
RETIRES_SOON = quick(retire_steps=((60.0, 0.1),))


def apply(relay: Relay, backend: BackendConfig) -> None:
    """Replace the one backend."""
    relay.apply(RelayConfig(MappingProxyType({backend.key: backend})))


async def next_session(relay: Relay, before: Session | None, timeout: float = 10) -> Session:
    """Wait until another session than ``before`` is up."""
    await async_wait_until(lambda: uplink_of(relay).current not in (before, None), "another session", timeout)
    current = uplink_of(relay).current
    assert current is not None
    return current


class RestartTests(SimpleTestCase):
    @on_both_loops
    async def test_ten_kills_and_restarts_leave_nothing(self) -> None:
        for dialect in DIALECTS:
            with recorded_logs():
                async with HttpTarget() as target, running(target.address, dialect=dialect) as (node, relay):
                    self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                    leaks = None
                    for number in range(11):
                        session = uplink_of(relay).current
                        async with TcpUser(node.public_port()) as user:
                            await user.send(request_head(HOST, "/echo"))
                            await async_wait_until(lambda s=session: s.streams == 1, "a stream")
                            await node.kill()
                            await async_wait_until(session.ended.done, "the loss")
                        await node.start()
                        await next_session(relay, session)
                        self.assertTrue((await http_get(node.public_port(), HOST)).ok, f"after restart {number}")
                        await async_wait_until(lambda r=relay: not r.stats().held, "no streams")
                        if leaks is None:
                            leaks = Leaks()  # the first round warms up caches
                    await leaks.check()
                    self.assertEqual(len(sessions_of(relay)), 1)

    @on_both_loops
    async def test_a_node_that_is_down_at_first(self) -> None:
        with recorded_logs() as logs:
            node = DevNode(secret=SECRET, http_ports={80: 0})
            async with node:
                backend = backend_for(node, "127.0.0.1:9")
                await node.stop()
                async with Relay([backend], timings=quick()) as relay:
                    await async_wait_until(lambda: relay.statuses()[0][1].problem, "a problem")
                    self.assertIn("nothing listens", relay.statuses()[0][1].problem)
                    await node.start()
                    await relay.wait_up(10)
                    self.assertEqual(relay.statuses()[0][1].problem, "")
        down = [record for record in logs.records if "not up" in record.getMessage()]
        self.assertTrue(down)
        self.assertTrue(all(hasattr(record, "retry_in_seconds") for record in down))

    @on_both_loops
    async def test_a_session_that_is_not_wanted_any_more_is_told_of(self) -> None:
        with recorded_logs() as logs:
            async with DevNode(secret=SECRET) as node, Relay([backend_for(node)], timings=quick()) as relay:
                await relay.wait_up(10)
                relay.apply(RelayConfig(MappingProxyType({})))
                await async_wait_until(lambda: not relay.stats().stopping, "the end of the session")
        closed = [record for record in logs.records if record.getMessage().startswith("session closed")]
        self.assertEqual([(record.levelname, record.backend) for record in closed], [("INFO", "app")])

    @on_both_loops
    async def test_what_breaks_costs_an_attempt_and_not_the_backend(self) -> None:
        broken = mock.Mock(side_effect=[RuntimeError("broken"), mock.DEFAULT, mock.DEFAULT], wraps=session_claims)
        with recorded_logs() as logs, mock.patch("relay.sessions.uplink.session_claims", broken):
            async with DevNode(secret=SECRET) as node, Relay([backend_for(node)], timings=quick()) as relay:
                await relay.wait_up(10)
        self.assertEqual(logs.text().count("session uplink broke"), 1)

    @on_both_loops
    async def test_the_network_is_back(self) -> None:
        patient = quick(retry_first=1000.0, retry_longest=1000.0)
        with recorded_logs():
            async with DevNode(secret=SECRET) as node:
                backend = backend_for(node)
                await node.stop()
                with mock.patch("random.uniform", lambda a, b: b):
                    async with Relay([backend], timings=patient) as relay:
                        await async_wait_until(lambda: relay.statuses()[0][1].state == "waiting", "the back-off")
                        await node.start()
                        relay.retry_now()
                        await relay.wait_up(10)

    @on_both_loops
    async def test_an_edit_starts_the_back_off_again(self) -> None:
        patient = quick(retry_first=1000.0, retry_longest=1e9)
        with recorded_logs() as logs, mock.patch("random.uniform", lambda a, b: b):
            async with DevNode(secret=SECRET) as node:
                backend = backend_for(node)
                await node.stop()
                async with Relay([backend], timings=patient) as relay:
                    for number in range(3):
                        await async_wait_until(lambda n=number: logs.text().count("not up") == n + 1, "an attempt")
                        await async_wait_until(lambda: relay.statuses()[0][1].state == "waiting", "the back-off")
                        apply(relay, replace(backend, claims=replace(CLAIMS, weight=number + 2)))
        delays = [record.retry_in_seconds for record in logs.records if hasattr(record, "retry_in_seconds")]
        self.assertEqual(delays[:3], [1000.0] * 3)

    @on_both_loops
    async def test_the_bound_falls_back_only_after_a_stable_session(self) -> None:
        with recorded_logs():
            async with DevNode(secret=SECRET) as node, Relay([backend_for(node)], timings=quick()) as relay:
                await relay.wait_up(10)
                for number in (1, 2):
                    session = uplink_of(relay).current
                    node.drop_sessions()
                    await next_session(relay, session)
                    self.assertEqual(uplink_of(relay)._backoff._failures, number)
                session = uplink_of(relay).current
                uplink_of(relay)._since -= quick().stable_after
                node.drop_sessions()
                await next_session(relay, session)
                self.assertEqual(uplink_of(relay)._backoff._failures, 1)

    @on_both_loops
    async def test_what_became_of_all_sessions_is_counted(self) -> None:
        with recorded_logs():
            async with DevNode(secret=SECRET) as node, Relay([backend_for(node)], timings=quick()) as relay:
                await relay.wait_up(10)
                (backend,) = relay.stats().backends
                self.assertEqual(
                    (backend.totals.connects, backend.totals.reconnects, backend.totals.errors), (1, 0, {})
                )
                before = backend.totals.last_connected
                self.assertTrue(before is not None and abs(time.time() - before) < 3600)
                session = session_of(relay)
                node.drop_sessions()
                session = await next_session(relay, session)
                apply(relay, replace(relay.config.backends["app"], claims=MORE))
                await next_session(relay, session)
                totals = relay.stats().backends[0].totals
                self.assertEqual((totals.connects, totals.reconnects, totals.errors), (3, 1, {"lost": 1}))
                self.assertGreater(totals.last_connected, before)


class RefusalTests(SimpleTestCase):
    @on_both_loops
    async def test_refused_credentials_wait_long_and_are_tried_at_once_when_they_change(self) -> None:
        for dialect in DIALECTS:
            with recorded_logs() as logs:
                async with DevNode(dialect=dialect, secret=SECRET) as node:
                    wrong = (
                        HmacSecret("wrong-secret-wrong-secret-wrong-32")
                        if dialect == "attested"
                        else presigned(secret="wrong-secret-wrong-secret-wrong-32")
                    )
                    backend = backend_for(node, credential=wrong)
                    async with Relay([backend], timings=quick(confirmed_after=1.0)) as relay:
                        await async_wait_until(lambda r=relay: r.statuses()[0][1].problem, "a refusal")
                        (record,) = [r for r in logs.records if "not up" in r.getMessage()]
                        self.assertGreaterEqual(record.retry_in_seconds, 15)  # type: ignore[attr-defined]
                        self.assertIn(relay.statuses()[0][1].state, ("refused", "waiting"))
                        apply(relay, replace(backend, credential=credential_for(dialect)))
                        await relay.wait_up(10)
                self.assertNotIn("wrong-secret", logs.text())

    @on_both_loops
    async def test_an_edit_ends_the_patience_with_what_was_refused(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (_, relay):
                backoff, backend = uplink_of(relay)._backoff, relay.config.backends["app"]
                for kind in (EndKind.REFUSED, EndKind.LOST, EndKind.LIKELY_REFUSED) * 3:
                    backoff.next(kind, 0)
                session = session_of(relay)
                apply(relay, replace(backend, claims=MORE))
                self.assertEqual((backoff._failures, backoff._refusals, backoff._likely), (0, 0, 0))
                await next_session(relay, session)

    @on_both_loops
    async def test_an_outage_of_the_nodes_verifier_is_told_and_tried_again_soon(self) -> None:
        reason = "stage0 token validation failed: remote verifier returned status 503"
        with recorded_logs() as logs:
            async with DevNode(secret=SECRET) as node:
                node.faults.refuse_reason = reason
                async with Relay([backend_for(node)], timings=quick(retry_longest=0.05)) as relay:
                    refusals = lambda: [r for r in logs.records if f"{reason}; " in r.getMessage()]  # noqa: E731
                    await async_wait_until(lambda: len(refusals()) > 5, "attempts that fail", timeout=20)
                    node.faults.refuse_reason = None
                    await relay.wait_up(10)
                self.assertTrue(all(record.retry_in_seconds <= 0.1 for record in refusals()))
                self.assertTrue(all("not in question" in record.getMessage() for record in refusals()))

    @on_both_loops
    async def test_a_new_session_that_is_refused_leaves_the_old_one_serving(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address, timings=RETIRES_SOON) as (node, relay):
                session = session_of(relay)
                node.faults.refuse_reason = "not today"
                backend = relay.config.backends["app"]
                apply(relay, replace(backend, claims=MORE))
                await async_wait_until(lambda: "not today" in relay.statuses()[0][1].problem, "the refusal")
                self.assertEqual(relay.statuses()[0][1].state, "up")
                self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                self.assertIs(uplink_of(relay).current, session)
                node.faults.refuse_reason = None
                uplink_of(relay).retry_now()
                await next_session(relay, session)
                await async_wait_until(session.ended.done, "the old session's end")
                self.assertEqual(node.dead_sessions, ())

    @on_both_loops
    async def test_a_new_token_is_shown_to_the_node_at_once_while_the_old_one_serves(self) -> None:
        with recorded_logs() as logs:
            async with HttpTarget() as target:
                async with running(target.address, dialect="token", timings=RETIRES_SOON) as (node, relay):
                    session, backend = session_of(relay), relay.config.backends["app"]
                    other = presigned(secret="wrong-secret-wrong-secret-wrong-32")
                    apply(relay, replace(backend, credential=other))
                    await async_wait_until(lambda: relay.statuses()[0][1].problem, "the refusal")
                    self.assertIs(uplink_of(relay).current, session)
                    self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                    taken = presigned(lifetime=7200)
                    apply(relay, replace(backend, credential=taken))
                    newer = await next_session(relay, session)
                    self.assertEqual(newer.authenticator.credential, taken)
                    await async_wait_until(session.ended.done, "the old session's end")
                    apply(relay, replace(backend, credential=replace(taken)))
                    uplink_of(relay).retry_now()
                    self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                    self.assertIs(uplink_of(relay).current, newer)
        self.assertIn("session not up", logs.text())

    @on_both_loops
    async def test_a_dead_session_in_the_pool_does_not_hinder_the_next(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (node, relay):
                session = session_of(relay)
                node.drop_sessions(noticed=False)
                await next_session(relay, session)
                await async_wait_until(lambda: node.dead_sessions, "the dead session")
                for dead in node.dead_sessions:
                    dead.bury()
                for _ in range(4):
                    self.assertTrue((await http_get(node.public_port(), HOST)).ok)


class ReplacementTests(SimpleTestCase):
    @on_both_loops
    async def test_no_stream_is_cut_when_sessions_are_replaced_under_load(self) -> None:
        """Make before break: long-lived streams and short requests, while hostnames come and go."""
        for dialect in DIALECTS:
            failed: list[int] = []
            done = asyncio.Event()
            with recorded_logs():
                async with (
                    HttpTarget() as target,
                    running(target.address, dialect=dialect, timings=RETIRES_SOON) as (node, relay),
                ):

                    async def requests(
                        node: DevNode = node, failed: list[int] = failed, done: asyncio.Event = done
                    ) -> int:
                        number = 0
                        while not done.is_set():
                            answer = await http_get(node.public_port(), HOST)
                            number += 1
                            if not answer.ok:
                                failed.append(number)
                            await asyncio.sleep(0.12 if number % 5 == 0 else 0)  # leaves quiet instants
                        return number

                    echoing: list[int] = []

                    async def long_lived(
                        number: int,
                        node: DevNode = node,
                        done: asyncio.Event = done,
                        echoing: list[int] = echoing,
                    ) -> bool:
                        async with TcpUser(node.public_port()) as user:
                            await user.send(request_head(HOST, "/echo"))
                            while not done.is_set():
                                await user.send(pattern(20_000))
                                if await user.receive(20_000) != pattern(20_000):
                                    return False
                                if number not in echoing:
                                    echoing.append(number)
                                await asyncio.sleep(0.01)
                            return True

                    first = session_of(relay)
                    loads = [asyncio.create_task(requests()), *(asyncio.create_task(long_lived(n)) for n in range(6))]
                    await async_wait_until(lambda e=echoing: len(e) == 6, "the load")
                    session, backend = first, relay.config.backends["app"]
                    for claims in (MORE, CLAIMS, replace(CLAIMS, weight=3)):
                        edit = replace(backend, claims=claims, credential=credential_for(dialect, claims))
                        apply(relay, edit)
                        session = await next_session(relay, session)
                        self.assertEqual(session.claims, claims.normalised())
                    self.assertFalse(first.ended.done())  # it carries the long-lived streams
                    self.assertGreaterEqual(first.streams, 6)  # requests may still be among them
                    done.set()
                    total, *whole = await asyncio.gather(*loads)
                    self.assertEqual(whole, [True] * 6)
                    self.assertGreater(total, 5)
                    await async_wait_until(lambda r=relay: len(sessions_of(r)) == 1, "the old sessions' end")
                    self.assertEqual((failed, node.counters.streams_cut, node.dead_sessions), ([], 0, ()))

    @on_both_loops
    async def test_a_replaced_session_refuses_what_was_removed_by_force(self) -> None:
        for removal in (Removal(RemovalMode.KILL), Removal(seconds=0)):
            with recorded_logs():
                async with HttpTarget() as target, running(target.address, claims=MORE) as (node, relay):
                    session, backend = session_of(relay), relay.config.backends["app"]
                    apply(relay, replace(backend, claims=CLAIMS, removal=removal))
                    await next_session(relay, session)
                    self.assertEqual((await http_get(node.public_port(), "more.example.com")).status, 0)
                    self.assertEqual(node.counters.disconnect_reasons.get("dial_failed"), 1)
                    await async_wait_until(session.ended.done, "its end")
                    for _ in range(4):
                        self.assertTrue((await http_get(node.public_port(), HOST)).ok)

    @on_both_loops
    async def test_a_drain_that_is_taken_back_goes_on_to_replace_what_it_replaced(self) -> None:
        with recorded_logs():
            async with EchoTarget() as target, running(target.address, timings=RETIRES_SOON) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    old, backend = session_of(relay), replace(relay.config.backends["app"], claims=MORE)
                    apply(relay, backend)
                    new = await next_session(relay, old)
                    async with TcpUser(node.public_port()) as other:
                        await other.send(request_head("more.example.com", "/"))
                        await async_wait_until(lambda: new.streams == 1, "a stream of the new session")
                        relay.apply(RelayConfig())
                        await async_wait_until(lambda: old.phase is SessionPhase.DRAINING, "the drain")
                        apply(relay, backend)
                        await async_wait_until(lambda: new.phase is SessionPhase.UP, "the drain's end")
                        self.assertIs(old.phase, SessionPhase.REPLACED)
                        await user.send(b"still here")
                        self.assertEqual(await user.receive(10), b"still here")
                await async_wait_until(old.ended.done, "the replaced session's end")
                self.assertIs(session_of(relay), new)
                self.assertEqual(node.dead_sessions, ())

    @on_both_loops
    async def test_a_removed_name_is_served_by_its_last_routes_until_the_deadline(self) -> None:
        with recorded_logs():
            async with HttpTarget("one") as one, HttpTarget("two") as two:
                before = RouteTable.build([PortRoutes("tcp", 80, hosts={HOST: one.address, OTHER: two.address})])
                never_quiet = quick(retire_steps=((1000.0, 1000.0),))
                options = {"routes": before, "claims": MORE, "removal": Removal(seconds=600)}
                async with running(timings=never_quiet, **options) as (node, relay):
                    session, backend = session_of(relay), relay.config.backends["app"]
                    port = node.public_port()
                    after = RouteTable.build([PortRoutes("tcp", 80, hosts={HOST: one.address})])
                    async with TcpUser(port) as user:
                        await user.send(request_head(HOST, "/echo"))
                        await async_wait_until(lambda: session.streams == 1, "a stream that holds the session")
                        apply(relay, replace(backend, claims=CLAIMS, routes=after))
                        self.assertEqual((await http_get(port, OTHER, "/name")).body, b"two")  # no successor is up yet
                        await next_session(relay, session)
                        self.assertEqual((await http_get(port, OTHER, "/name")).body, b"two")
                        async with TcpUser(port) as late:
                            await late.send(request_head(OTHER, "/echo"))
                            await late.send(b"x")
                            await async_wait_until(lambda: session.streams == 2, "a late stream")
                            # The deadline: streams of the name end, and new ones are refused.
                            former = runner_of(relay)._former
                            former._before = [replace(each, until=0.0) for each in former._before]
                            former._set_timer()
                            await async_wait_until(lambda: session.streams == 1, "the late stream's end")
                        served = session.last_opened
                        self.assertEqual((await http_get(port, OTHER)).status, 0)
                        self.assertEqual(
                            session.last_opened, served, "who is turned away does not keep it from closing"
                        )
                        await user.send(b"x")
                        self.assertEqual(await user.receive(1), b"x")
                        self.assertTrue((await http_get(port, HOST)).ok)
                    await async_wait_until(session.ended.done, "its end without a lull")

    @on_both_loops
    async def test_a_removed_port_keeps_its_access_list(self) -> None:
        denied = PortOptions(access=AccessList(deny=("127.0.0.0/8",)))
        with recorded_logs():
            async with HttpTarget() as target:
                other = PortRoutes("tcp", 81, default=target.address, options=denied)
                before = RouteTable.build([PortRoutes("tcp", 80, hosts={HOST: target.address}), other])
                ports = {"http_ports": {80: 0, 81: 0}}
                async with running(routes=before, claims=MORE, options=ports) as (node, relay):
                    session, backend = session_of(relay), relay.config.backends["app"]
                    after = RouteTable.build([PortRoutes("tcp", 80, hosts={HOST: target.address})])
                    async with TcpUser(node.public_port("http", 80)) as user:
                        await user.send(request_head(HOST, "/echo"))
                        await async_wait_until(lambda: session.streams == 1, "a stream that holds the session")
                        apply(relay, replace(backend, claims=CLAIMS, routes=after))
                        self.assertEqual((await http_get(node.public_port("http", 81), OTHER)).status, 0)
                    self.assertEqual(session.totals.access_denied, 1)

    @on_both_loops
    async def test_a_stream_at_the_deadline_is_cut_and_told(self) -> None:
        with recorded_logs() as logs:
            timings = quick(retire_steps=((0.05, 0.01),))
            async with EchoTarget() as target, running(target.address, timings=timings) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    session = session_of(relay)
                    apply(relay, replace(relay.config.backends["app"], claims=MORE))
                    await async_wait_until(session.ended.done, "the old session's end")
                    self.assertEqual(await user.receive_all(), b"")
        self.assertIn("cut at its deadline", logs.text())

    @on_both_loops
    async def test_edits_without_end_do_not_leave_sessions_without_end(self) -> None:
        never_quiet = mock.patch.object(Session, "quiet_for", lambda session: 0.0)
        with recorded_logs() as logs, mock.patch("relay.sessions.uplink.MOST_REPLACED", 2), never_quiet:
            async with EchoTarget() as target, running(target.address) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    first = session = session_of(relay)
                    for weight in range(2, 7):
                        apply(relay, replace(relay.config.backends["app"], claims=replace(CLAIMS, weight=weight)))
                        session = await next_session(relay, session)
                    await async_wait_until(lambda: len(sessions_of(relay)) == 3, "the others' end")
                    # Who has streams stays.
                    self.assertIn(first, sessions_of(relay))
                    await user.send(b"still here")
                    self.assertEqual(await user.receive(10), b"still here")
                    self.assertEqual(relay.stats().sessions, 3)
        self.assertIn("replaced session cut: there are too many", logs.text())

    @on_both_loops
    async def test_a_new_secret_with_the_same_claims_touches_no_session(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, relay):
            session, backend = session_of(relay), relay.config.backends["app"]
            node.secret = "another-secret-another-secret-32b"
            apply(relay, replace(backend, credential=HmacSecret(node.secret)))
            node.challenge_all()
            await async_wait_until(lambda: node.counters.reauths == 1, "the re-auth with the new secret")
            self.assertIs(session_of(relay), session)

    @on_both_loops
    async def test_many_edits_in_a_row_end_with_one_session(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address, timings=RETIRES_SOON) as (node, relay):
                backend = relay.config.backends["app"]
                leaks = None
                for number in range(30):
                    apply(relay, replace(backend, claims=replace(CLAIMS, weight=1 + number % 7)))
                    for _ in range(number % 5):
                        await asyncio.sleep(0.01)
                    if number == 15:
                        await self._settled(relay, node)
                        leaks = Leaks()
                apply(relay, backend)
                await self._settled(relay, node)
                self.assertEqual(session_of(relay).claims, CLAIMS)
                await leaks.check()

    async def _settled(self, relay: Relay, node: DevNode) -> None:
        await async_wait_until(
            lambda: (
                len(sessions_of(relay)) == 1
                and len(node.sessions) == 1
                and session_of(relay).up.is_set()
                and session_of(relay).claims == relay.config.backends["app"].claims
            ),
            "one session",
        )


class StopTests(SimpleTestCase):
    @on_both_loops
    async def test_a_user_who_is_there_but_not_read_yet_keeps_a_session_open(self) -> None:
        async with EchoTarget() as target, running(target.address) as (_, relay):
            session, core = session_of(relay), session_of(relay).core
            ours, theirs = socket.socketpair()
            with ours, theirs:

                def read() -> None:
                    ours.recv(1)
                    core.counters.streams_opened += 1

                loop = asyncio.get_running_loop()
                loop.add_reader(ours, read)
                self.assertTrue(await nobody_comes(session))
                theirs.send(b"x")
                self.assertFalse(await nobody_comes(session))
                loop.remove_reader(ours)

    @on_both_loops
    async def test_a_stop_at_any_instant_leaves_nothing(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, DevNode(secret=SECRET, http_ports={80: 0}) as node:
                async with Relay([backend_for(node, target.address)], timings=quick()) as relay:
                    await relay.wait_up(10)
                leaks = Leaks()
                for steps in range(40):
                    relay = Relay([backend_for(node, target.address)], timings=quick())
                    await relay.start()
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    stopping = asyncio.create_task(relay.stop(0.01))
                    if steps % 2:
                        await asyncio.sleep(0)
                        await relay.stop(0)
                    with contextlib.suppress(asyncio.CancelledError):
                        await stopping
                await leaks.check()
                await node.wait_for_sessions(0)

    @on_both_loops
    async def test_a_session_without_streams_closes_at_once(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (node, relay):
                session, turn = session_of(relay), asyncio.sleep
                passed: list[float] = []

                async def sleep(seconds: float) -> None:
                    passed.append(seconds)
                    await turn(0)

                with mock.patch("asyncio.sleep", sleep), mock.patch.object(session.book.idle, "wait", passed):
                    await relay.stop(1000)
                self.assertEqual((any(passed), node.counters.disconnect_reasons), (False, {}))

    @on_both_loops
    async def test_users_are_served_until_a_quiet_instant(self) -> None:
        patient = quick(drain_steps=((1000.0, 0.0),))
        with recorded_logs() as logs:
            async with HttpTarget() as target, running(target.address, timings=patient) as (node, relay):
                session, port = session_of(relay), node.public_port()
                async with TcpUser(port) as user:
                    await user.send(request_head(HOST, "/echo"))
                    await async_wait_until(lambda: session.streams == 1, "a stream")
                    stopping = asyncio.create_task(relay.stop(1000))
                    await async_wait_until(lambda: session.phase is SessionPhase.DRAINING, "the drain")
                    for _ in range(20):
                        self.assertTrue((await http_get(port, HOST)).ok)
                    self.assertFalse(session.ended.done())
                await stopping
                self.assertEqual((node.counters.streams_cut, node.dead_sessions), (0, ()))
        self.assertEqual(logs.text().count("session closed by the relay"), 1)

    @on_both_loops
    async def test_near_the_deadline_an_instant_with_none_but_old_streams_will_do(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (node, relay):
                session, port = session_of(relay), node.public_port()
                async with TcpUser(port) as held:
                    await held.send(request_head(HOST, "/echo"))
                    await async_wait_until(lambda: session.streams == 1, "a stream")
                    between = asyncio.get_running_loop().time()
                    self.assertTrue(session.all_began_before(between))
                    async with TcpUser(port) as late:
                        await late.send(request_head(HOST, "/echo"))
                        await async_wait_until(lambda: session.streams == 2, "a late stream")
                        self.assertFalse(session.all_began_before(between))
                    await async_wait_until(lambda: len(session.live) == 1, "the late stream's end")
                    with mock.patch("relay.sessions.uplink.last_look", lambda timings, drain: drain):
                        await asyncio.wait_for(relay.stop(1000), 10)
                    self.assertEqual(await held.receive_all(), b"")

    @on_both_loops
    async def test_users_whom_our_close_crosses_are_counted(self) -> None:
        with recorded_logs() as logs:
            async with HttpTarget() as target, running(target.address) as (_, relay):
                session, usage = session_of(relay), runner_of(relay).usage
                announced = b"\x02" + encode(Connect(bytes(16), hostname=HOST, conn_port=80, transport="tcp"))

                def late(number: int) -> None:
                    for message in (announced, b"\x01" + bytes(16) + b"data", b"", b"\x02{")[: number + 1]:
                        session.late_received(message)

                refused = usage.refused
                close = session._connection.close

                async def closing() -> None:
                    late(3)
                    await close()

                with mock.patch.object(session._connection, "close", closing):
                    shared = relay._supervisor.shared
                    await relay.stop(1000)
                self.assertEqual((session.totals.too_late, usage.refused - refused, shared.too_late), (1, 1, 1))
        (line,) = (record for record in logs.records if record.getMessage().startswith("session closed"))
        self.assertEqual(line.users_lost, 1)

    @on_both_loops
    async def test_a_drain_that_is_taken_back_goes_on_with_what_was_being_replaced(self) -> None:
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (node, relay):
                first, backend = session_of(relay), relay.config.backends["app"]
                async with TcpUser(node.public_port()) as user:
                    await user.send(request_head(HOST, "/echo"))
                    await async_wait_until(lambda: first.streams == 1, "a stream that holds the session")
                    changed = replace(backend, claims=replace(CLAIMS, weight=3))
                    apply(relay, changed)
                    second = await next_session(relay, first)
                    async with TcpUser(node.public_port()) as other:
                        await other.send(request_head(HOST, "/echo"))
                        await async_wait_until(lambda: first.streams + second.streams == 2, "another stream")
                        relay.apply(RelayConfig(MappingProxyType({})))
                        await async_wait_until(lambda: first.phase is SessionPhase.DRAINING, "the drain")
                        apply(relay, changed)
                        await async_wait_until(lambda: first.phase is SessionPhase.REPLACED, "the drain's end")
                        uplink = uplink_of(relay)
                        self.assertTrue(uplink._retiring, "the replaced session is to be closed still")
                        self.assertFalse(first.ended.done())
                        uplink._timings = replace(uplink._timings, retire_steps=((1000.0, 0.0),))
                    user.writer.close()
                    await async_wait_until(first.ended.done, "the replaced session's end")

    @on_both_loops
    async def test_a_second_stop_shortens_the_first(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                await user.receive(len(HEAD))
                stopping = asyncio.create_task(relay.stop(1000))
                session = session_of(relay)
                await async_wait_until(lambda: session.phase is SessionPhase.DRAINING, "the drain")
                await relay.stop(0)
                await stopping
                self.assertEqual(await user.receive_all(), b"")
            self.assertEqual(node.counters.disconnect_reasons.get("shutdown"), 1)
            self.assertEqual(node.dead_sessions, ())
