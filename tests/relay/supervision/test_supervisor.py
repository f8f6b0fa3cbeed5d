"""Tests of relay.supervision.supervisor: what runs follows the newest configuration."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from types import MappingProxyType
from unittest import mock

from django.test import SimpleTestCase

from relay import (
    BackendConfig,
    Claims,
    FlowControlOptions,
    NodeConfig,
    PortOptions,
    PortRoutes,
    Relay,
    RelayConfig,
    RouteTable,
    TargetHealth,
    TargetOrder,
    Timings,
)
from relay.devnode import DevNode
from relay.sessions.phases import SessionPhase
from tests.support.relays import (
    HOST,
    SECRET,
    Leaks,
    Recorder,
    backend_for,
    inside_of,
    on_both_loops,
    quick,
    recorded_logs,
    routes_to,
    running,
    session_of,
    sessions_of,
)
from tests.support.targets import EchoTarget, HttpTarget, refusing_target, silent_target
from tests.support.users import HttpAnswer, TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


def config_of(*backends: BackendConfig, generation: int = 0) -> RelayConfig:
    """A relay's configuration."""
    return RelayConfig(MappingProxyType({backend.key: backend for backend in backends}), generation)


class ApplyTests(SimpleTestCase):
    @on_both_loops
    async def test_a_changed_target_serves_the_next_stream_and_touches_no_session(self) -> None:
        async with HttpTarget("one") as one, HttpTarget("two") as two, running(one.address) as (node, relay):
            session, backend = session_of(relay), relay.config.backends["app"]
            async with TcpUser(node.public_port()) as user:
                await user.send(request_head(HOST, "/echo"))
                for number in range(40):
                    target = (one, two)[number % 2]
                    relay.apply(config_of(replace(backend, routes=routes_to(target.address)), generation=number))
                    answer = await http_get(node.public_port(), HOST, "/name")
                    self.assertEqual(answer.body.decode(), target.name)
                await user.send(b"through it all")
                self.assertEqual(await user.receive(14), b"through it all")
            self.assertIs(session_of(relay), session)
            self.assertEqual(node.counters.sessions, 1)

    @on_both_loops
    async def test_applying_the_same_again_does_nothing(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, relay):
            session = session_of(relay)
            with recorded_logs() as logs:
                for _ in range(3):
                    relay.apply(relay.config)
                    relay.apply(
                        config_of(backend_for(node, target.address, credential=relay.config.backends["app"].credential))
                    )
                    await asyncio.sleep(0)
            self.assertIs(session_of(relay), session)
            self.assertEqual((logs.text(), node.counters.sessions), ("", 1))

    @on_both_loops
    async def test_options_that_the_node_does_not_see_touch_no_session(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, relay):
            session, backend = session_of(relay), relay.config.backends["app"]
            for edit in (
                replace(backend, flow_control=FlowControlOptions(4, 2, 8)),
                replace(backend, tenant="acme", name="renamed"),
                replace(backend, nodes=(replace(backend.nodes[0], name="first"),)),
            ):
                relay.apply(config_of(edit))
                self.assertTrue((await http_get(node.public_port(), HOST)).ok)
            self.assertIs(session_of(relay), session)

    @on_both_loops
    async def test_nodes_come_and_go(self) -> None:
        leaks = Leaks()
        with recorded_logs():
            async with HttpTarget() as target, DevNode(secret=SECRET, http_ports={80: 0}) as second:
                async with running(target.address) as (node, relay):
                    first, backend = session_of(relay), relay.config.backends["app"]
                    both = (*backend.nodes, NodeConfig(second.address, ca_pem=second.ca_pem))
                    relay.apply(config_of(replace(backend, nodes=both)))
                    await relay.wait_up(10)
                    self.assertTrue((await http_get(second.public_port(), HOST)).ok)
                    self.assertEqual(len(sessions_of(relay)), 2)
                    relay.apply(config_of(replace(backend, nodes=both[1:])))
                    await node.wait_for_sessions(0)
                    await async_wait_until(first.ended.done, "the first session's end")
                    self.assertEqual(node.dead_sessions, ())
                    self.assertTrue((await http_get(second.public_port(), HOST)).ok)
        await leaks.check()

    @on_both_loops
    async def test_a_removed_backend_drains(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            with recorded_logs():
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    session = session_of(relay)
                    relay.apply(config_of())
                    self.assertEqual(relay.statuses(), [])
                    await async_wait_until(lambda: session.phase is SessionPhase.DRAINING, "the drain")
                    async with TcpUser(node.public_port()) as late:
                        await late.send(HEAD)
                        self.assertEqual(await late.receive(len(HEAD)), HEAD)
                    await user.send(b"still here")
                    self.assertEqual(await user.receive(10), b"still here")
                await node.wait_for_sessions(0)
            self.assertEqual((node.counters.streams_cut, node.dead_sessions), (0, ()))
            self.assertEqual(node.counters.disconnect_reasons.get("shutdown"), None)

    @on_both_loops
    async def test_what_drains_checks_its_targets_until_its_last_session_has_closed(self) -> None:
        """Its node is taken away first, then it is removed itself: it ends with the last of its sessions."""
        checked = PortOptions(target_health=TargetHealth(interval=0.05))
        async with EchoTarget() as target:
            routes = RouteTable.build([PortRoutes("tcp", 80, default=target.address, options=checked)])
            async with running(routes=routes) as (node, relay):
                with recorded_logs():
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        await user.receive(len(HEAD))
                        relay.apply(config_of(replace(relay.config.backends["app"], nodes=())))
                        relay.apply(config_of())
                        await asyncio.sleep(0)
                        self.assertEqual([status.target for status in relay.targets("app")], [target.address])
                    await async_wait_until(lambda: not relay.stats().backends, "the end of the drain")
                    self.assertEqual(relay.targets(), [])

    @on_both_loops
    async def test_a_backend_that_comes_back_while_it_drains(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, relay):
            with recorded_logs():
                old, backend = session_of(relay), relay.config.backends["app"]
                async with TcpUser(node.public_port()) as user:
                    await user.send(request_head(HOST, "/echo"))
                    await async_wait_until(lambda: old.streams == 1, "a stream")
                    for removed_for in (0, 1, 2, 100):
                        relay.apply(config_of())
                        for _ in range(removed_for):
                            await asyncio.sleep(0)
                        relay.apply(config_of(backend))
                        await relay.wait_up(10)
                        self.assertIs(session_of(relay), old)
                        self.assertIs(old.phase, SessionPhase.UP)
                        await user.send(b"x")
                        self.assertEqual(await user.receive(1), b"x")
                        self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                    self.assertEqual((relay.stats().stopping, len(relay.stats().backends)), (0, 1))
                self.assertEqual((node.counters.sessions, node.counters.disconnect_reasons.get("shutdown")), (1, None))

    @on_both_loops
    async def test_a_backend_that_comes_back_otherwise_while_it_drains(self) -> None:
        async with HttpTarget("one") as one, HttpTarget("two") as two, running(one.address) as (node, relay):
            with recorded_logs():
                old, backend = session_of(relay), relay.config.backends["app"]
                claims = Claims(hostnames=(HOST, "new.example.com"))
                async with TcpUser(node.public_port()) as user:
                    await user.send(request_head(HOST, "/echo"))
                    await async_wait_until(lambda: old.streams == 1, "a stream")
                    relay.apply(config_of())
                    await async_wait_until(lambda: old.phase is SessionPhase.DRAINING, "the drain")
                    relay.apply(config_of(replace(backend, routes=routes_to(two.address), claims=claims)))
                    await async_wait_until(lambda: node.counters.sessions == 2, "a session with the new claims")
                    await relay.wait_up(10)
                    for host in claims.hostnames:
                        self.assertEqual((await http_get(node.public_port(), host, "/name")).body, b"two")
                    await user.send(b"x")
                    self.assertEqual(await user.receive(1), b"x")
                await node.wait_for_sessions(1)
                self.assertEqual((node.dead_sessions, node.counters.disconnect_reasons.get("shutdown")), ((), None))

    @on_both_loops
    async def test_a_backend_that_comes_back_too_late(self) -> None:
        leaks = Leaks()
        with recorded_logs():
            async with HttpTarget() as target, running(target.address) as (node, relay):
                old, backend = session_of(relay), relay.config.backends["app"]
                relay.apply(config_of())
                await async_wait_until(old.ended.done, "the end")
                relay.apply(config_of(backend))
                await relay.wait_up(10)
                self.assertIsNot(session_of(relay), old)
                self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                await async_wait_until(
                    lambda: (relay.stats().stopping, len(relay.stats().backends)) == (0, 1), "nothing drains"
                )
        await leaks.check()

    @on_both_loops
    async def test_a_node_that_comes_back_while_it_drains(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, relay):
            with recorded_logs():
                old, backend = session_of(relay), relay.config.backends["app"]
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    await user.receive(len(HEAD))
                    relay.apply(config_of(replace(backend, nodes=())))
                    await async_wait_until(lambda: old.phase is SessionPhase.DRAINING, "the drain")
                    relay.apply(config_of(backend))
                    await async_wait_until(lambda: old.phase is SessionPhase.UP, "the drain's end")
                    self.assertIs(session_of(relay), old)
                    await user.send(b"x")
                    self.assertEqual(await user.receive(1), b"x")
            self.assertEqual(node.counters.sessions, 1)

    @on_both_loops
    async def test_edits_and_dead_targets_under_load_lose_nobody(self) -> None:
        """Targets, their order and their checks change, backend and node go and come back, while users are served."""
        leaks, chance = Leaks(), random.Random(3)
        checks = TargetHealth(interval=0.02, timeout=0.05, down_after=2)
        options = [
            PortOptions(target_order=order, target_health=health, dial_timeout=4)
            for order in TargetOrder
            for health in (TargetHealth(), checks)
        ]
        gaps = 0  # odd while there is nobody to serve
        lost: list[HttpAnswer] = []
        served = 0

        async def browse(port: int) -> None:
            nonlocal served
            while not stopped.is_set():
                before = gaps
                answer = await http_get(port, HOST)
                served += answer.ok
                if not answer.ok and before == gaps and not gaps % 2:
                    lost.append(answer)

        async def stay(port: int) -> None:
            async with TcpUser(port) as user:
                await user.send(request_head(HOST, "/echo"))
                while not stopped.is_set():
                    await user.send(b"x")
                    self.assertEqual(await user.receive(1), b"x")
                    await asyncio.sleep(0.01)

        stopped = asyncio.Event()
        with recorded_logs():
            async with HttpTarget() as one, HttpTarget() as two, refusing_target() as refusing, silent_target() as mute:

                def routes() -> RouteTable:
                    good = chance.choice([one.address, two.address])
                    others = chance.sample([one.address, two.address, refusing, mute], chance.randint(0, 3))
                    targets = list({good, *others})
                    chance.shuffle(targets)
                    mapping = PortRoutes("tcp", 80, default=",".join(targets), options=chance.choice(options))
                    return RouteTable.build([mapping])

                async with running(routes=routes()) as (node, relay):
                    backend, port = relay.config.backends["app"], node.public_port()
                    users = [asyncio.create_task(user(port)) for user in (browse,) * 4 + (stay,) * 2]
                    for number in range(40):
                        if number % 4 == 0:
                            gaps += 1
                            without = config_of() if number % 8 else config_of(replace(backend, nodes=()))
                            relay.apply(without)
                            for _ in range(chance.choice([0, 1, 5, 50])):
                                await asyncio.sleep(0)
                        relay.apply(config_of(replace(backend, routes=routes())))
                        await async_wait_until(lambda: session_of(relay).phase is SessionPhase.UP, "the session serves")
                        gaps, before = gaps + gaps % 2, served
                        await async_wait_until(lambda before=before: served > before + 5, "users are served")
                    stopped.set()
                    await asyncio.wait_for(asyncio.gather(*users), 10)
                    self.assertEqual((lost, node.counters.sessions, node.counters.streams_cut), ([], 1, 0))
        await leaks.check()

    @on_both_loops
    async def test_one_dead_node_does_not_hold_up_the_others(self) -> None:
        """More backends than may be opened at once wait for a node that never answers."""
        with recorded_logs():

            async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
                writer.transport.abort()

            silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
            address = f"wss://127.0.0.1:{silent.sockets[0].getsockname()[1]}/connect"
            async with DevNode(secret=SECRET, http_ports={80: 0}) as node:
                good = backend_for(node)
                dead = [replace(good, key=f"dead-{n}", nodes=(NodeConfig(address),)) for n in range(100)]
                async with Relay(config_of(*dead, good), timings=quick()):
                    await node.wait_for_sessions(1)
            silent.close()

    @on_both_loops
    async def test_500_backends(self) -> None:
        number = 500
        with recorded_logs():
            async with HttpTarget() as target, DevNode(secret=SECRET, http_ports={80: 0}) as node:
                base = backend_for(node, target.address)
                backends = [
                    replace(base, key=f"b{n}", name=f"b{n}", claims=Claims(hostnames=(f"h{n}.example.com",)))
                    for n in range(number)
                ]
                leaks = Leaks()
                async with Relay(config_of(*backends), timings=quick(tick=0.25)) as relay:
                    await relay.wait_up(60)
                    self.assertEqual(len(node.sessions), number)
                    for n in (0, 250, 499):
                        self.assertTrue((await http_get(node.public_port(), f"h{n}.example.com")).ok)
                    relay.apply(config_of(*backends[:250]))
                    await node.wait_for_sessions(250, timeout=20)
                    relay.apply(config_of(*backends))
                    await relay.wait_up(60)
                await node.wait_for_sessions(0, timeout=20)
                self.assertEqual(node.dead_sessions, ())
                await leaks.check()


class ContainmentTests(SimpleTestCase):
    """What breaks in a step of one backend keeps no other from following its configuration."""

    @contextlib.asynccontextmanager
    async def beside(
        self, bad: BackendConfig, timings: Timings | None = None
    ) -> AsyncIterator[tuple[DevNode, Relay, RelayConfig, Recorder]]:
        """Give a relay that serves ``bad``, which comes first, and a healthy backend, edited by each test."""
        async with HttpTarget() as target, DevNode(secret=SECRET, http_ports={80: 0}) as node:
            with recorded_logs() as logs:
                healthy = backend_for(node, target.address)
                async with Relay([healthy], timings=timings or quick()) as relay:
                    await relay.wait_up(10)
                    yield node, relay, config_of(bad, healthy), logs

    def told(self, logs: Recorder) -> int:
        return logs.text().count("backend could not follow its configuration")

    @on_both_loops
    async def test_one_that_can_not_be_begun(self) -> None:
        bad = BackendConfig("bad", "bad", (), None, "acme")
        async with self.beside(bad) as (node, relay, config, logs), HttpTarget("new") as new:
            edited = config_of(bad, replace(config.backends["app"], routes=routes_to(new.address)), generation=2)
            with mock.patch("relay.supervision.backend_runner.token_source", side_effect=RuntimeError("broken")):
                relay.apply(edited)
            self.assertEqual((await http_get(node.public_port(), HOST, "/name")).body, b"new")
            self.assertEqual((self.told(logs), set(inside_of(relay)._runners)), (1, {"app"}))
            self.assertIsNotNone(inside_of(relay)._again)
            relay.apply(edited)
            self.assertEqual((self.told(logs), set(inside_of(relay)._runners)), (1, {"app", "bad"}))
            self.assertIsNone(inside_of(relay)._again)

    @on_both_loops
    async def test_one_that_is_tried_again_by_itself(self) -> None:
        bad = BackendConfig("bad", "bad", (), None, "acme")
        async with self.beside(bad, quick(reapply_after=0.0)) as (_, relay, config, logs):
            supervisor = inside_of(relay)
            with mock.patch("relay.supervision.backend_runner.token_source", side_effect=RuntimeError("broken")):
                relay.apply(config)
            await async_wait_until(lambda: "bad" in supervisor._runners, "the second try")
            self.assertEqual(self.told(logs), 1)

    @on_both_loops
    async def test_one_that_can_not_take_an_edit(self) -> None:
        bad = BackendConfig("bad", "bad", (), None, "acme")
        async with self.beside(bad) as (node, relay, config, logs), HttpTarget("new") as new:
            supervisor = inside_of(relay)
            relay.apply(config)
            healthy = replace(config.backends["app"], routes=routes_to(new.address))
            edited = config_of(replace(bad, routes=routes_to("127.0.0.1:1")), healthy, generation=2)
            broken = mock.Mock(side_effect=RuntimeError("broken"))
            with mock.patch.object(supervisor._runners["bad"], "_reconcile_socks", broken):
                relay.apply(edited)
            self.assertEqual((self.told(logs), supervisor._runners["bad"].behind), (1, True))
            self.assertEqual((await http_get(node.public_port(), HOST, "/name")).body, b"new")
            relay.apply(edited)
            self.assertEqual((self.told(logs), supervisor._runners["bad"].behind), (1, False))
            self.assertEqual(supervisor._runners["bad"].config, edited.backends["bad"])

    @on_both_loops
    async def test_one_that_can_not_be_stopped(self) -> None:
        bad = BackendConfig("bad", "bad", (), None, "acme")
        async with self.beside(bad) as (node, relay, config, logs), HttpTarget("new") as new:
            supervisor = inside_of(relay)
            relay.apply(config)
            gone = config_of(replace(config.backends["app"], routes=routes_to(new.address)), generation=2)
            with mock.patch("relay.supervision.supervisor.BackendRunner.stop", side_effect=RuntimeError("broken")):
                relay.apply(gone)
            self.assertEqual((await http_get(node.public_port(), HOST, "/name")).body, b"new")
            self.assertEqual((self.told(logs), set(supervisor._runners)), (1, {"app", "bad"}))
            relay.apply(gone)
            self.assertEqual((self.told(logs), set(supervisor._runners)), (1, {"app"}))
