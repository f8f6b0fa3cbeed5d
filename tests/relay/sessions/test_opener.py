"""Tests of relay.sessions.opener: failed dials, several targets, PROXY headers, access lists, covering claims."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from django.test import SimpleTestCase
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from relay import Claims, NoRoute, PortRoutes, RelayConfig, RouteTable
from relay.config.hostnames import requested_name
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.devnode import DevNode
from relay.protocol.messages import Connect, Reason, encode
from relay.sessions.opener import covers
from tests.relay.sessions.test_tcp_stream import HEAD, assert_clean, echo_once
from tests.support.pattern import pattern
from tests.support.relays import (
    HOST,
    Leaks,
    backend_for,
    inside_of,
    on_both_loops,
    recorded_logs,
    routes_to,
    running,
    session_of,
)
from tests.support.targets import (
    EchoTarget,
    HttpTarget,
    refusing_target,
    silent_target,
)
from tests.support.users import TcpUser, http_get
from tests.support.waiting import async_wait_until


class FailedDialTests(SimpleTestCase):
    @on_both_loops
    async def test_nothing_is_asked_about_a_name_that_no_dns_has(self) -> None:
        asked: list[str] = []

        async def handler(request: Any) -> str:
            asked.append(request.hostname)
            raise NoRoute

        async with EchoTarget() as target:
            with recorded_logs():
                async with running(target.address, connect_handler=handler) as (node, relay):
                    session = session_of(relay)
                    for name in ("a" * 64 + ".example.com", "a." * 130 + "example.com"):
                        connect = Connect(uuid.uuid4().bytes, hostname=name, conn_port=80, credits=64)
                        session.binary_received(b"\x02" + encode(connect))
                    session.batch_received()
                    await self._failed(node, 2)
                    self.assertEqual(asked, [])

    async def _failed(self, node: DevNode, number: int = 1) -> None:
        await async_wait_until(
            lambda: node.counters.disconnect_reasons.get(Reason.DIAL_FAILED, 0) >= number, "dial_failed", timeout=5
        )

    @on_both_loops
    async def test_failed_dials_harm_nobody_else(self) -> None:
        """A refused dial, an unresolvable name, a missing socket, no route, and a target that never answers."""
        with recorded_logs():
            async with EchoTarget() as target, refusing_target() as refusing, silent_target() as silent:
                for bad in (refusing, "no-such-host.invalid:80", "unix:/nonexistent/socket", "", silent):
                    routes = RouteTable.build([])
                    for number, address in ((80, bad), (81, target.address)):
                        if address:
                            quickly = PortOptions(dial_timeout=0.3)
                            mapping = PortRoutes("tcp", number, default=address, options=quickly)
                            routes = RouteTable.build([*routes, mapping])
                    options = {"http_ports": {80: 0, 81: 0}}
                    leaks = Leaks()
                    async with running(options=options, routes=routes) as (node, relay):
                        async with TcpUser(node.public_port("http", 81)) as other:
                            await echo_once(other, HEAD)
                            async with TcpUser(node.public_port("http", 80)) as user:
                                await user.send(HEAD)
                                self.assertEqual(await user.receive_all(timeout=5), b"", bad)
                            await self._failed(node)
                            data = pattern(200_000)
                            self.assertEqual(await echo_once(other, data), data)
                        assert_clean(self, node)
                        await async_wait_until(lambda relay=relay: not relay.stats().held, "no streams")
                    await leaks.check()

    @on_both_loops
    async def test_a_handler_that_never_answers_and_a_target_that_does_not_share_one_time_limit(self) -> None:
        async def never(request: Any) -> str:
            await asyncio.Event().wait()
            return ""

        with recorded_logs(), mock.patch("relay.targets.tenant_targets.Dialer") as dialer:
            from relay.targets.dialing import Dialer

            dialer.side_effect = lambda **options: Dialer(0.2)
            leaks = Leaks()
            async with running(connect_handler=never) as (node, _):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertEqual(await user.receive_all(timeout=5), b"")
                await self._failed(node)
            await leaks.check()

    @on_both_loops
    async def test_users_that_leave_during_the_dial_leave_nothing(self) -> None:
        async with EchoTarget() as target:
            leaks = Leaks()
            async with running(target.address) as (node, relay):

                async def hasty(number: int) -> None:
                    async with TcpUser(node.public_port()) as user:
                        user.writer.write(HEAD)
                        for _ in range(number % 12):
                            await asyncio.sleep(0)

                for _ in range(10):
                    await asyncio.gather(*(hasty(number) for number in range(24)))
                await async_wait_until(lambda: not relay.stats().held, "no streams", timeout=10)
                await async_wait_until(lambda: not session_of(relay)._tasks, "no dials")
                assert_clean(self, node)
            await leaks.check()

    @on_both_loops
    async def test_a_session_lost_during_dials_leaves_nothing(self) -> None:
        async with silent_target() as silent:
            leaks = Leaks()
            with recorded_logs():
                async with running(silent) as (node, relay):
                    users = [TcpUser(node.public_port()) for _ in range(20)]
                    async with contextlib.AsyncExitStack() as stack:
                        for user in users:
                            await stack.enter_async_context(user)
                            await user.send(HEAD)
                        session = session_of(relay)
                        await async_wait_until(lambda: len(session.core.streams) == 20, "20 dials")
                        node.drop_sessions()
                        await async_wait_until(lambda: not relay.stats().held, "no streams")
                        self.assertFalse(session._tasks)
                    await relay.wait_up(10)
            await leaks.check()


class SeveralTargetsTests(SimpleTestCase):
    @contextlib.asynccontextmanager
    async def _running(self, targets: str, **options: Any) -> AsyncIterator[tuple[DevNode, Any]]:
        mapping = PortRoutes("tcp", 80, default=targets, options=PortOptions(**options))
        async with running(routes=RouteTable.build([mapping])) as (node, relay):
            yield node, relay

    async def _served_by(self, node: DevNode) -> str:
        return (await http_get(node.public_port(), HOST, "/name")).body.decode()

    @on_both_loops
    async def test_in_order_with_spares(self) -> None:
        with recorded_logs() as logs:
            async with HttpTarget("one") as one, HttpTarget("two") as two, refusing_target() as refusing:
                async with self._running(f"{refusing},{one.address},{two.address}") as (node, relay):
                    self.assertEqual([await self._served_by(node) for _ in range(4)], ["one"] * 4)
                    await one.stop()
                    self.assertEqual([await self._served_by(node) for _ in range(4)], ["two"] * 4)
                    await one.start()
                    inside_of(relay).tenant_targets("").dialer._failed.clear()  # the moment is over
                    self.assertEqual(await self._served_by(node), "one")
                    self.assertEqual(session_of(relay).totals.dials_failed, 0)
        self.assertNotIn("dial failed", logs.text())

    @on_both_loops
    async def test_in_turn(self) -> None:
        async with HttpTarget("one") as one, HttpTarget("two") as two, HttpTarget("three") as three:
            targets = ",".join(target.address for target in (one, two, three))
            async with self._running(targets, target_order=TargetOrder.ROUND_ROBIN) as (node, _):
                served = [await self._served_by(node) for _ in range(9)]
                self.assertEqual(Counter(served), {"one": 3, "two": 3, "three": 3})
                await two.stop()
                served = [await self._served_by(node) for _ in range(11)]
                self.assertNotIn("two", served)
                self.assertLessEqual(abs(served.count("one") - served.count("three")), 3)

    @on_both_loops
    async def test_a_silent_target_leaves_time_for_the_next(self) -> None:
        async with HttpTarget("one") as one, silent_target() as silent:
            async with self._running(f"{silent},{one.address}", dial_timeout=0.4) as (node, _):
                self.assertEqual([await self._served_by(node) for _ in range(3)], ["one"] * 3)

    @on_both_loops
    async def test_health_checks_take_a_target_out_and_bring_it_back(self) -> None:
        leaks = Leaks()
        health = TargetHealth(interval=0.01, timeout=5, up_after=1, down_after=2)
        with recorded_logs() as logs:
            async with HttpTarget("one") as one, HttpTarget("two") as two:
                async with self._running(f"{one.address},{two.address}", target_health=health) as (node, relay):
                    self.assertEqual(await self._served_by(node), "one")
                    await one.stop()
                    await async_wait_until(lambda: not relay.targets("app")[0].up or not relay.targets()[1].up, "down")
                    self.assertEqual(await self._served_by(node), "two")
                    self.assertFalse(inside_of(relay).tenant_targets("").dialer._failed, "the dead target was dialled")
                    await one.start()
                    await async_wait_until(lambda: all(status.up for status in relay.targets()), "up")
                    self.assertEqual(await self._served_by(node), "one")
                    routes = routes_to(one.address)
                    backend = replace(relay.config.backends["app"], routes=routes)
                    relay.apply(replace(relay.config, backends={"app": backend}))
                    self.assertEqual(relay.targets(), [])
        changes = [line for line in logs.text().splitlines() if line.startswith("target ")]
        self.assertEqual(changes, ["target down: Connection refused", "target up"])
        await leaks.check()

    @on_both_loops
    async def test_where_all_are_down_all_are_tried(self) -> None:
        health = TargetHealth(interval=0.01, timeout=5, up_after=1000, down_after=1)
        leaks = Leaks()
        with recorded_logs():
            async with HttpTarget("one") as one, refusing_target() as refusing:
                async with self._running(f"{refusing},{one.address}", target_health=health) as (node, relay):
                    checked = inside_of(relay).tenant_targets("").health.statuses
                    await one.stop()
                    await async_wait_until(lambda: not any(status.up for status in relay.targets()), "down")
                    await one.start()
                    self.assertEqual(await self._served_by(node), "one")
                self.assertFalse(checked(), "checks go on")
        await leaks.check()


class ProxyHeaderTests(SimpleTestCase):
    def _routes(self, target: str, version: ProxyProtocol, **mapping: Any) -> RouteTable:
        options = PortOptions(proxy_protocol=version, **mapping.pop("options", {}))
        return RouteTable.build([PortRoutes("tcp", 80, default=target, options=options)])

    @on_both_loops
    async def test_the_header_comes_before_the_users_bytes(self) -> None:
        for version, parser in ((ProxyProtocol.V1, ProxyProtocolV1()), (ProxyProtocol.V2, ProxyProtocolV2())):
            async with EchoTarget() as target, running(routes=self._routes(target.address, version)) as (node, _):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    got = b""
                    while not got.endswith(HEAD):
                        got += await user.receive(1)
                    result = parser.unpack(got[: -len(HEAD)])
                    self.assertEqual(str(result.source[0]), "127.0.0.1")
                    self.assertEqual(result.source[1], user.writer.get_extra_info("sockname")[1])
                    self.assertEqual(result.dest[1], 80)

    @on_both_loops
    async def test_a_target_that_speaks_first_has_it_too(self) -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.put_nowait(await reader.readuntil(b"\r\n"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, DevNode(tcp_ports={2525: 0}) as probe:
            port = next(port for port in probe.public_ports if port.kind == "tcp").advertised
            routes = RouteTable.build(
                [
                    PortRoutes(
                        "tcp",
                        port,
                        default=f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
                        options=PortOptions(proxy_protocol=ProxyProtocol.V1),
                    )
                ]
            )
            claims = Claims(hostnames=(HOST,), tcp_ports=(port,))
            async with running(routes=routes, claims=claims, options={"tcp_ports": {2525: 0}}) as (node, _):
                async with TcpUser(node.public_port("tcp")):
                    line = await asyncio.wait_for(got.get(), 10)
        self.assertRegex(line, rb"^PROXY TCP4 127\.0\.0\.1 0\.0\.0\.0 \d+ 2525\r\n$")

    @on_both_loops
    async def test_a_spare_target_gets_it_anew(self) -> None:
        async with refusing_target() as dead, EchoTarget() as target:
            routes = self._routes(f"{dead},{target.address}", ProxyProtocol.V1)
            async with running(routes=routes) as (node, _), TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                self.assertRegex(await user.receive(10), b"^PROXY TCP4")


class AccessTests(SimpleTestCase):
    def _routes(self, target: str, **access: Any) -> RouteTable:
        options = PortOptions(access=AccessList(**access))
        return RouteTable.build([PortRoutes("tcp", 80, default=target, options=options)])

    @on_both_loops
    async def test_who_is_not_admitted_is_turned_away_before_any_dial(self) -> None:
        asked = []

        async def handler(request: Any) -> str:
            asked.append(request)
            raise NoRoute

        async with EchoTarget() as target:
            routes = self._routes(target.address, deny=("127.0.0.0/8",))
            with recorded_logs() as logs:
                async with running(routes=routes, connect_handler=handler) as (node, relay):
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive_all(), b"")
                    self.assertEqual(node.counters.disconnect_reasons.get("dial_failed"), 1)
                    totals = session_of(relay).totals
                    self.assertEqual((totals.access_denied, totals.refused), (1, 1))
            self.assertEqual((asked, target.accepted), ([], 0))
            self.assertIn("access list", logs.text())

    @on_both_loops
    async def test_an_observing_list_counts_and_lets_in(self) -> None:
        async with EchoTarget() as target:
            routes = self._routes(target.address, allow=("192.0.2.0/24",), mode=AccessMode.OBSERVE)
            async with running(routes=routes) as (node, relay), TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                self.assertEqual(await user.receive(len(HEAD)), HEAD)
                self.assertEqual(session_of(relay).totals.access_observed, 1)

    @on_both_loops
    async def test_an_edit_serves_the_next_stream(self) -> None:
        async with EchoTarget() as target:
            async with running(routes=self._routes(target.address, allow=("192.0.2.0/24",))) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertEqual(await user.receive_all(), b"")
                backend = backend_for(node, routes=self._routes(target.address, allow=("127.0.0.1/32",)))
                relay.apply(RelayConfig({"app": backend}))
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertEqual(await user.receive(len(HEAD)), HEAD)


class TargetFileTests(SimpleTestCase):
    @on_both_loops
    async def test_a_unix_target_that_comes_and_goes(self) -> None:
        with tempfile.TemporaryDirectory() as directory, recorded_logs():
            path = Path(directory) / "socket"
            async with running(f"unix:{path}") as (node, _):
                self.assertEqual((await http_get(node.public_port(), HOST)).status, 0)
                async with EchoTarget(unix=path):
                    async with TcpUser(node.public_port()) as user:
                        self.assertEqual(await echo_once(user, HEAD), HEAD)


class CoverTests(SimpleTestCase):
    def test_claims_cover_what_a_session_could_be_sent(self) -> None:
        claims = Claims(hostnames=("a.example.com", "*.b.example.com"), tcp_ports=(25,))
        for hostname, port, transport, expected in (
            ("a.example.com", 80, "tcp", True),
            ("A.Example.com.", 80, "tcp", True),
            ("x.b.example.com", 80, "tcp", True),
            ("x.y.b.example.com", 80, "tcp", False),
            ("b.example.com", 80, "tcp", False),
            ("tcp:25", 25, "tcp", True),
            ("tcp:26", 26, "tcp", False),
            ("udp:25", 25, "udp", False),
        ):
            self.assertEqual(covers(claims, port, requested_name(hostname), transport), expected, hostname)
