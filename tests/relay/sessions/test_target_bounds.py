"""Tests of target policies on live streams: what users, logs, health checks and other backends notice of a refusal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import Dial, PortRoutes, Relay, RelayConfig, RouteTable, StreamRefused, TargetPolicy, parse_target
from relay.config.port_options import PortOptions, ProxyProtocol, TargetHealth
from relay.connect_handler import ConnectRequest
from relay.devnode import DevNode
from tests.support.relays import (
    HOST,
    on_both_loops,
    quick,
    recorded_logs,
    routes_to,
    running,
    session_of,
    udp_claims,
)
from tests.support.targets import EchoTarget, UdpEchoTarget, unix_echo_target
from tests.support.users import TcpUser, UdpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")
USUAL = (TargetPolicy(),)
LOOPBACK = (TargetPolicy(("127.0.0.0/8",)),)


async def served(node: DevNode) -> bool:
    """Say whether a new user gets through to an echo."""
    async with TcpUser(node.public_port()) as user:
        await user.send(HEAD)
        return await _echoes(user)


async def _echoes(user: TcpUser, data: bytes = HEAD) -> bool:
    try:
        return await user.receive(len(data)) == data
    except (asyncio.IncompleteReadError, OSError):
        return False


def bounded(relay: Relay, policies: tuple[TargetPolicy, ...]) -> None:
    """Let the relay's one backend have these policies from now on."""
    [backend] = relay.config.backends.values()
    relay.apply(RelayConfig({backend.key: replace(backend, target_policies=policies)}))


class StreamTests(SimpleTestCase):
    @on_both_loops
    async def test_a_refused_target_is_a_failed_dial_and_the_log_says_why_once(self) -> None:
        events: list[Any] = []
        proxied = PortOptions(proxy_protocol=ProxyProtocol.V1)
        async with EchoTarget() as target:
            routes = RouteTable.build([PortRoutes("tcp", 80, default=target.address, options=proxied)])
            with recorded_logs() as logs:
                async with running(routes=routes, target_policies=USUAL, on_event=events.append) as (node, relay):
                    for _ in range(5):
                        self.assertFalse(await served(node))
                    self.assertEqual(session_of(relay).totals.dials_failed, 5)
            self.assertEqual(target.accepted, 0)
        [line] = [record for record in logs.records if "dial failed" in record.getMessage()]
        self.assertEqual(
            line.getMessage(),
            "dial failed: 127.0.0.1 is the relay's own machine, which the tenant's policy for targets does not allow: "
            "choose another target, or have an operator allow the tenant 127.0.0.1",
        )
        self.assertEqual(line.__dict__["target"], target.address)
        self.assertEqual({event.reason for event in events if isinstance(event, StreamRefused)}, {"dial_failed"})

    @on_both_loops
    async def test_a_policy_reaches_live_routes_and_leaves_live_streams(self) -> None:
        with recorded_logs():
            async with EchoTarget() as target, running(target.address) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertTrue(await _echoes(user))
                    sessions = session_of(relay)
                    bounded(relay, USUAL)
                    self.assertFalse(await served(node))
                    await user.send(b"still here")
                    self.assertTrue(await _echoes(user, b"still here"))
                    bounded(relay, LOOPBACK)
                    self.assertTrue(await served(node))
                    bounded(relay, (*LOOPBACK, TargetPolicy(("127.0.0.2/32",), whose="site")))
                    self.assertFalse(await served(node))
                    self.assertIs(session_of(relay), sessions)

    @on_both_loops
    async def test_a_policy_that_is_narrowed_while_a_handler_thinks(self) -> None:
        gate = asyncio.Event()
        async with EchoTarget() as target:

            async def slow(request: ConnectRequest) -> str:
                await gate.wait()
                return target.address

            with recorded_logs():
                async with running(connect_handler=slow, target_policies=LOOPBACK) as (node, relay):
                    asking = asyncio.create_task(served(node))
                    await async_wait_until(lambda: session_of(relay).streams == 1, "the stream")
                    bounded(relay, USUAL)
                    gate.set()
                    self.assertFalse(await asking)
            self.assertEqual(target.accepted, 0)

    @on_both_loops
    async def test_whatever_a_connect_handler_answers(self) -> None:
        async with EchoTarget() as target, unix_echo_target() as unix:
            answers: Iterator[Any] = iter(
                [
                    target.address,
                    parse_target(target.address),
                    Dial((parse_target(target.address), parse_target(f"localhost:{target.port}"))),
                    unix.address,
                ]
            )

            async def handler(request: ConnectRequest) -> Any:
                return next(answers)

            with recorded_logs():
                async with running(connect_handler=handler, target_policies=USUAL) as (node, relay):
                    self.assertEqual([await served(node) for _ in range(4)], [False] * 4)
                    self.assertEqual(session_of(relay).totals.dials_failed, 4)
            self.assertEqual((target.accepted, unix.accepted), (0, 0))

    @on_both_loops
    async def test_unix_sockets(self) -> None:
        with recorded_logs():
            async with unix_echo_target() as target, running(target.address, target_policies=USUAL) as (node, relay):
                self.assertFalse(await served(node))
                self.assertEqual(target.accepted, 0)
                bounded(relay, (TargetPolicy(unix=True),))
                self.assertTrue(await served(node))

    @on_both_loops
    async def test_a_name_whose_answer_changes(self) -> None:
        """A name that was a permitted address when its target was saved, and is another one now."""
        async with EchoTarget() as target:
            answers = iter(["127.0.0.2", "127.0.0.1"])

            def look_up(host: str, *args: Any, **options: Any) -> Any:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

            policy = (TargetPolicy(("127.0.0.2/32",)),)
            routes = routes_to(f"rebind.example:{target.port}")
            with recorded_logs() as logs:
                timings = quick(resolved_for=0.0)
                async with running(routes=routes, target_policies=policy, timings=timings) as (node, _):
                    with mock.patch("relay.network.resolver.socket.getaddrinfo", look_up):
                        self.assertFalse(await served(node))
                        self.assertFalse(await served(node))
            self.assertEqual(target.accepted, 0)
        lines = [record.getMessage() for record in logs.records if "dial failed" in record.getMessage()]
        self.assertEqual(lines[0], "dial failed: Connection refused")  # 127.0.0.2, which was dialled
        self.assertRegex(lines[1], "^dial failed: 127.0.0.1 is the relay's own machine, ")

    @on_both_loops
    async def test_udp(self) -> None:
        options = {"udp_ports": {5353: 0}}
        async with DevNode(**options) as probe:
            claims = udp_claims(probe)
        async with UdpEchoTarget() as target:
            routes = routes_to(f"192.0.2.1:9,{target.address}", port=5353, transport="udp")
            with recorded_logs():
                async with running(claims=claims, routes=routes, options=options, target_policies=LOOPBACK) as (
                    node,
                    relay,
                ):
                    async with UdpUser(node.public_port("udp")) as user:
                        user.send(b"a")
                        self.assertEqual(await user.receive(), b"re:a")
                    bounded(relay, (TargetPolicy(("192.0.2.2/32",)),))
                    async with UdpUser(node.public_port("udp")) as user:
                        user.send(b"b")
                        await async_wait_until(lambda: session_of(relay).totals.dials_failed == 1, "the refusal")
            self.assertEqual(target.received, [b"a"])


class HealthCheckTests(SimpleTestCase):
    @on_both_loops
    async def test_a_refused_target_is_down_and_never_probed(self) -> None:
        checked = PortOptions(target_health=TargetHealth(interval=0.01, down_after=1, up_after=1))
        async with EchoTarget() as target, EchoTarget() as other:
            targets = f"{target.address},localhost:{other.port}"
            routes = RouteTable.build([PortRoutes("tcp", 80, default=targets, options=checked)])
            policies = (TargetPolicy(("127.0.0.1/32",), ((other.port, other.port),)),)
            with recorded_logs() as logs:
                async with running(routes=routes, target_policies=policies) as (node, relay):
                    await async_wait_until(lambda: other.accepted, "a probe of what is permitted")
                    await async_wait_until(lambda: "target down" in logs.text(), "the refused target is down")
                    self.assertEqual(
                        {status.target: status.up for status in relay.targets()},
                        {target.address: False, f"localhost:{other.port}": True},
                    )
                    self.assertRegex(logs.text(), rf"target down: port {target.port} is not among {other.port}, ")
                    self.assertTrue(await served(node))
                    self.assertEqual(target.accepted, 0)
                    bounded(relay, LOOPBACK)
                    await async_wait_until(lambda: target.accepted, "a probe within the new policy")
