"""Tests of relay.targets.tenant_targets: what one tenant's targets can do to the streams and sessions of others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import BackendConfig, PortRoutes, Relay, RelayConfig, RouteTable, parse_target
from relay.config import NodeConfig, Removal, RemovalMode
from relay.config.port_options import PortOptions, TargetHealth
from relay.devnode import DevNode
from relay.network.names import LOOKUPS_AT_ONCE
from tests.support.relays import (
    HOST,
    SECRET,
    Leaks,
    backend_for,
    inside_of,
    on_both_loops,
    quick,
    recorded_logs,
    running,
)
from tests.support.targets import EchoTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


@contextlib.contextmanager
def mute_resolver() -> Iterator[set[str]]:
    """Let names below ``mute.example`` hold whoever looks them up until the end; give those that do."""
    real, release, asked = socket.getaddrinfo, threading.Event(), set[str]()

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".mute.example"):
            asked.add(host)
            release.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real("127.0.0.1" if str(host).endswith(".example") else host, *args, **options)

    with mock.patch("socket.getaddrinfo", look_up):
        try:
            yield asked
        finally:
            release.set()


def routes_with_checks(*targets: str) -> RouteTable:
    options = PortOptions(target_health=TargetHealth(interval=0.01, timeout=0.05))
    mappings = (PortRoutes("tcp", port, default=target, options=options) for port, target in enumerate(targets, 1000))
    return RouteTable.build(mappings)


class ReachTests(SimpleTestCase):
    @on_both_loops
    async def test_a_backend_that_is_given_to_another_tenant_dials_and_checks_as_theirs(self) -> None:
        async with EchoTarget() as target, running(routes=routes_with_checks(target.address), tenant="a") as (_, relay):
            supervisor, backend = inside_of(relay), relay.config.backends["app"]
            before = supervisor.tenant_targets("a")
            self.assertEqual(len(before.health.statuses("app")), 1)
            relay.apply(RelayConfig({"app": replace(backend, tenant="b")}))
            runner, after = supervisor._runners["app"], supervisor.tenant_targets("b")
            self.assertIs(runner.dialer, after.dialer)
            self.assertIs(runner._balancer._dialer, after.dialer)
            self.assertEqual((before.health.statuses("app"), len(after.health.statuses("app"))), ([], 1))

    @contextlib.asynccontextmanager
    async def two_tenants(self, target: str, mute: int) -> AsyncIterator[tuple[DevNode, Relay, BackendConfig]]:
        """Give a relay with a backend at a node, beside another tenant with so many names that nobody answers for."""
        names = [f"n{number}.mute.example:80" for number in range(mute)]
        hostile = BackendConfig("hostile", "hostile", (), None, "hostile", routes=routes_with_checks(*names))
        with recorded_logs():
            async with DevNode(secret=SECRET, http_ports={80: 0}) as node:
                victim = backend_for(node, target, tenant="victim")
                async with Relay([hostile, victim], timings=quick()) as relay:
                    yield node, relay, victim

    @on_both_loops
    async def test_names_that_nobody_answers_for_keep_only_their_own_tenant_waiting(self) -> None:
        leaks = Leaks()
        async with EchoTarget() as target:
            with mute_resolver() as asked:
                async with self.two_tenants(f"app.example:{target.port}", 100) as (node, relay, victim):
                    await async_wait_until(lambda: len(asked) == LOOKUPS_AT_ONCE, "as many as may be looked up at once")
                    await relay.wait_up(10)
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive(len(HEAD)), HEAD)
                    # A node by its name, and a token that is signed: nothing of the loop's own is taken.
                    named = NodeConfig(node.address.replace("127.0.0.1", "localhost"), ca_pem=node.ca_pem)
                    self.assertNotEqual(named.address, node.address)
                    renewed = replace(victim, nodes=(named,))
                    relay.apply(RelayConfig({**relay.config.backends, "app": renewed}))
                    await relay.wait_up(10)
                    self.assertEqual(len(asked), LOOKUPS_AT_ONCE)
        await leaks.check()

    @on_both_loops
    async def test_what_nobody_waits_for_any_more_is_not_looked_up(self) -> None:
        with mute_resolver() as asked:
            async with self.two_tenants("", 0) as (_, relay, _):
                dialer = inside_of(relay).tenant_targets("victim").dialer
                names = [parse_target(f"n{number}.mute.example:80") for number in range(100)]
                dials = [dialer.probe(name, 0.05) for name in names]
                self.assertEqual(
                    {type(found) for found in await asyncio.gather(*dials, return_exceptions=True)}, {TimeoutError}
                )
                self.assertEqual(len(dialer.names._lookups), LOOKUPS_AT_ONCE)
                self.assertEqual(len(asked), LOOKUPS_AT_ONCE)

    @on_both_loops
    async def test_disabling_and_enabling_gives_no_more_lookups(self) -> None:
        with mute_resolver() as asked:
            async with self.two_tenants("", 0) as (_, relay, victim):
                for turn in range(4):
                    names = [f"n{turn}-{number}.mute.example:80" for number in range(20)]
                    hostile = replace(relay.config.backends["hostile"], routes=routes_with_checks(*names))
                    relay.apply(RelayConfig({"hostile": hostile, "app": victim}))
                    await async_wait_until(lambda: len(asked) >= LOOKUPS_AT_ONCE, "look-ups that hang")
                    relay.apply(RelayConfig({"app": victim}), Removal(RemovalMode.KILL))
                    await async_wait_until(lambda: len(relay.statuses()) == 1, "the other backend is gone")
                    gc.collect()
                    relay.apply(RelayConfig({"hostile": hostile, "app": victim}))
                self.assertEqual(len(asked), LOOKUPS_AT_ONCE)

    @on_both_loops
    async def test_a_target_that_failed_for_one_tenant_comes_first_for_another(self) -> None:
        async with self.two_tenants("", 0) as (_, relay, _):
            supervisor = inside_of(relay)
            target = parse_target("127.0.0.1:9")
            hostile, victim = supervisor.tenant_targets("hostile").dialer, supervisor.tenant_targets("victim").dialer
            hostile._note_failed(target)
            self.assertEqual((hostile.failed_lately(target), victim.failed_lately(target)), (True, False))

    @on_both_loops
    async def test_checks_that_hang_keep_only_their_own_tenants_checks_waiting(self) -> None:
        async with EchoTarget() as target:
            with mute_resolver():
                async with self.two_tenants("", 0) as (_, relay, victim):
                    slow = PortOptions(target_health=TargetHealth(interval=0.01, timeout=86_400))
                    mute = (PortRoutes("tcp", port, f"n{port}.mute.example:1", options=slow) for port in range(1, 200))
                    hostile = replace(relay.config.backends["hostile"], routes=RouteTable.build(mute))
                    checked = replace(victim, routes=routes_with_checks(f"127.0.0.1:{target.port}"))
                    relay.apply(RelayConfig({"hostile": hostile}))
                    await async_wait_until(lambda: len(relay.targets("hostile")) == 199, "hanging checks")
                    relay.apply(RelayConfig({"hostile": hostile, "app": checked}))
                    await async_wait_until(lambda: target.accepted > 2, "checks of the other's")
                    await target.stop()
                    await async_wait_until(lambda: not relay.targets("app")[0].up, "down")
                    self.assertEqual(len(relay.targets()), 200)
