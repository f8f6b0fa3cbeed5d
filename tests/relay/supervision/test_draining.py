"""Tests of relay.supervision.draining: what happens to the streams of what was removed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import TestCase

from django.test import SimpleTestCase

from relay import BackendConfig, NodeConfig, PortRoutes, Relay, RelayConfig, RouteTable
from relay.config import Removal, RemovalMode
from relay.devnode import DevNode
from relay.supervision.draining import RouteDrain, drain_seconds
from tests.support.relays import HOST, SECRET, on_both_loops, recorded_logs, routes_to, runner_of, running, session_of
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")
KILL = Removal(RemovalMode.KILL)
LONG = Removal(seconds=600)


class DrainSecondsTests(TestCase):
    def test_how_long_streams_may_go_on(self) -> None:
        for removal, seconds in (
            (Removal(), 30),
            (Removal(seconds=0), 0),
            (Removal(seconds=7.5), 7.5),
            (KILL, 0),
            (Removal(RemovalMode.KILL, 10), 0),
        ):
            self.assertEqual(drain_seconds(removal, 30), seconds)


class FakeStream:
    """A stream that notes its end."""

    def __init__(self) -> None:
        self.ended = False
        self.endings: list[str] = []

    def end(self, reason: str) -> None:
        self.ended = True
        self.endings.append(reason)

    def abort(self) -> None:
        self.endings.append("abort")


class RouteDrainTests(TestCase):
    """Each test runs on uvloop and on asyncio."""

    def drain(self) -> tuple[RouteDrain, list[Any], set[Any]]:
        streams: list[Any] = [FakeStream() for _ in range(3)]
        routed = set(streams)
        return RouteDrain(routed.__contains__), streams, routed

    @on_both_loops
    async def test_at_once(self) -> None:
        drain, streams, routed = self.drain()
        self.assertEqual(drain.routes_changed(streams, 0), 0)
        routed.discard(streams[1])
        self.assertEqual(drain.routes_changed(streams, 0), 1)
        self.assertEqual([stream.endings for stream in streams], [[], ["shutdown", "abort"], []])
        self.assertEqual(drain.routes_changed(streams, 0), 0)
        self.assertEqual(len(streams[1].endings), 2)

    @on_both_loops
    async def test_at_a_deadline(self) -> None:
        drain, streams, routed = self.drain()
        routed.clear()
        streams[0].ended = True
        self.assertEqual(drain.routes_changed(streams, 0.02), 2)
        self.assertFalse(streams[1].ended)
        await async_wait_until(lambda: streams[1].ended and streams[2].ended, "the deadline")
        self.assertEqual(streams[0].endings, [])

    @on_both_loops
    async def test_who_comes_back_is_saved_and_an_earlier_deadline_stands(self) -> None:
        drain, streams, routed = self.drain()
        routed.clear()
        drain.routes_changed(streams, 0.05)
        routed.add(streams[0])
        self.assertEqual(drain.routes_changed(streams, 600), 0)
        await async_wait_until(lambda: streams[1].ended and streams[2].ended, "the first deadline")
        self.assertFalse(streams[0].ended)
        # Losing its route again, it has the whole time again.
        routed.clear()
        self.assertEqual(drain.routes_changed(streams, 600), 1)
        self.assertEqual(drain.routes_changed(streams, 0), 0)
        self.assertTrue(streams[0].ended)

    @on_both_loops
    async def test_stopped(self) -> None:
        drain, streams, routed = self.drain()
        routed.clear()
        drain.routes_changed(streams, 0)
        drain, streams, routed = self.drain()
        routed.clear()
        drain.routes_changed(streams, 0.01)
        drain.stop()
        await asyncio.sleep(0.05)
        self.assertFalse(any(stream.ended for stream in streams))


def config_of(*backends: BackendConfig, **removals: Removal) -> RelayConfig:
    """A relay's configuration."""
    return RelayConfig(
        MappingProxyType({backend.key: backend for backend in backends}), removals=MappingProxyType(removals)
    )


class RemovalTests(SimpleTestCase):
    @contextlib.asynccontextmanager
    async def echoing(self, **backend: Any) -> AsyncIterator[tuple[DevNode, Relay, TcpUser, Callable[..., Any]]]:
        """A stream that lives, and a check that it still does."""
        with recorded_logs():
            async with EchoTarget() as target, running(target.address, **backend) as (node, relay):
                async with TcpUser(node.public_port()) as user:

                    async def lives(data: bytes = b"still here") -> None:
                        await user.send(data)
                        self.assertEqual(await user.receive(len(data)), data)

                    await lives(HEAD)
                    yield node, relay, user, lives

    def _without_route(self, backend: BackendConfig, **changes: Any) -> BackendConfig:
        return replace(backend, routes=routes_to("127.0.0.1:9", port=81), **changes)

    async def _cut(self, node: DevNode, user: TcpUser) -> None:
        self.assertEqual(await user.receive_all(), b"")
        self.assertEqual(node.counters.disconnect_reasons, {"shutdown": 1})

    @on_both_loops
    async def test_a_backend_that_is_killed(self) -> None:
        async with self.echoing(removal=KILL) as (node, relay, user, _):
            relay.apply(config_of())
            await self._cut(node, user)
            await node.wait_for_sessions(0)
            self.assertEqual(node.dead_sessions, ())

    @on_both_loops
    async def test_a_backend_that_drains_until_its_own_deadline(self) -> None:
        async with self.echoing(removal=Removal(seconds=0.2)) as (node, relay, user, lives):
            relay.apply(config_of())
            await lives()
            await self._cut(node, user)

    @on_both_loops
    async def test_a_disabled_backend_goes_as_the_configuration_says_now(self) -> None:
        async with self.echoing(removal=LONG) as (node, relay, user, _):
            relay.apply(config_of(app=KILL))
            await self._cut(node, user)

    @on_both_loops
    async def test_a_draining_backend_can_be_killed(self) -> None:
        async with self.echoing(removal=KILL) as (node, relay, user, lives):
            relay.apply(config_of(app=LONG))
            await lives()
            relay.apply(config_of(app=LONG))
            await asyncio.sleep(0)
            await lives()
            relay.apply(config_of(app=KILL))
            await self._cut(node, user)

    @on_both_loops
    async def test_a_draining_backend_keeps_its_deadline_where_nothing_is_said_of_it_any_more(self) -> None:
        async with self.echoing() as (_, relay, _, lives):
            relay.apply(config_of(app=LONG))
            relay.apply(config_of())
            await asyncio.sleep(0)
            await lives()

    @on_both_loops
    async def test_a_program_decides_for_one_change(self) -> None:
        async with self.echoing(removal=KILL) as (_, relay, _, lives):
            relay.apply(config_of(app=KILL), removal=LONG)
            await lives()
            relay.apply(config_of(app=KILL))  # nothing has changed since
            await asyncio.sleep(0)
            await lives()
        async with self.echoing(removal=LONG) as (node, relay, user, _):
            relay.apply(config_of(self._without_route(relay.config.backends["app"])), removal=KILL)
            await self._cut(node, user)

    @on_both_loops
    async def test_a_node_that_is_taken_from_a_backend_drains(self) -> None:
        async with DevNode(secret=SECRET) as other, self.echoing(removal=KILL) as (_, relay, _, lives):
            moved = (NodeConfig(other.address, ca_pem=other.ca_pem),)
            relay.apply(config_of(replace(relay.config.backends["app"], nodes=moved)))
            await other.wait_for_sessions(1)
            await lives()

    @on_both_loops
    async def test_the_streams_of_a_removed_route_are_killed(self) -> None:
        async with self.echoing(removal=KILL) as (node, relay, user, _):
            session = session_of(relay)
            relay.apply(config_of(self._without_route(relay.config.backends["app"])))
            await self._cut(node, user)
            self.assertIs(session_of(relay), session)

    @on_both_loops
    async def test_the_streams_of_a_removed_route_drain_until_the_deadline(self) -> None:
        async with self.echoing(removal=Removal(seconds=0.2)) as (node, relay, user, lives):
            with recorded_logs() as logs:
                relay.apply(config_of(self._without_route(relay.config.backends["app"])))
                await lives()
                await self._cut(node, user)
            (line,) = (record for record in logs.records if "lost their route" in record.getMessage())
            self.assertEqual((line.streams, line.drain_seconds), (1, 0.2))

    @on_both_loops
    async def test_a_route_that_comes_back_saves_its_streams(self) -> None:
        async with self.echoing(removal=Removal(seconds=0.2)) as (_, relay, _, lives):
            backend = relay.config.backends["app"]
            relay.apply(config_of(self._without_route(backend)))
            drain = runner_of(relay)._route_drain
            self.assertEqual(len(drain._deadlines), 1)
            relay.apply(config_of(backend))
            self.assertFalse(drain._deadlines)
            await asyncio.sleep(0.3)
            await lives()

    @on_both_loops
    async def test_whoever_loses_patience_with_a_removed_route_kills_it(self) -> None:
        async with self.echoing(removal=LONG) as (node, relay, user, lives):
            removed = self._without_route(relay.config.backends["app"])
            relay.apply(config_of(removed))
            await lives()
            relay.apply(config_of(replace(removed, removal=KILL)))
            await self._cut(node, user)

    @on_both_loops
    async def test_a_backend_that_comes_back_without_a_route(self) -> None:
        async with self.echoing(removal=LONG) as (node, relay, user, lives):
            removed = self._without_route(relay.config.backends["app"], removal=KILL)
            relay.apply(config_of(app=LONG))
            await lives()
            relay.apply(config_of(removed))
            await self._cut(node, user)

    @on_both_loops
    async def test_a_route_that_is_removed_while_the_backend_drains_is_looked_at_when_it_is_back(self) -> None:
        async with self.echoing(removal=LONG) as (node, relay, user, _):
            removed = self._without_route(relay.config.backends["app"])
            relay.apply(config_of(removed))
            relay.apply(config_of())
            relay.apply(config_of(removed), removal=KILL)
            await self._cut(node, user)

    @on_both_loops
    async def test_other_edits_of_routes_cut_nothing(self) -> None:
        async with self.echoing(removal=KILL) as (_, relay, _, lives):
            backend = relay.config.backends["app"]
            elsewhere, spare = "127.0.0.1:9", PortRoutes("tcp", 81, default="127.0.0.1:9")
            for routes in (
                routes_to(elsewhere),
                RouteTable.build([PortRoutes("tcp", 80, hosts={HOST: elsewhere}), spare]),
                RouteTable.build([PortRoutes("tcp", 80, hosts={"*." + HOST.partition(".")[2]: elsewhere})]),
            ):
                relay.apply(config_of(replace(backend, routes=routes)))
                await lives()

    @on_both_loops
    async def test_streams_of_connect_handlers_are_left_alone(self) -> None:
        async with EchoTarget() as target:

            async def handler(request: Any) -> str:
                return target.address

            async with self.echoing(removal=KILL, connect_handler=handler) as (_, relay, _, lives):
                relay.apply(config_of(self._without_route(relay.config.backends["app"])))
                await lives()
