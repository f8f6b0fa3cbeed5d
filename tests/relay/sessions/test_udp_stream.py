"""Tests of relay.sessions.udp_stream: datagrams, what is dropped, and what ends a flow."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

from django.test import SimpleTestCase
from proxyprotocol.v2 import ProxyProtocolV2

from relay import NoRoute, PortRoutes, RouteTable
from relay.config.port_options import PortOptions, ProxyProtocol
from relay.devnode import DevNode
from relay.protocol.frames import MAX_PAYLOAD
from relay.protocol.messages import Connect, encode
from relay.sessions.streams import MESSAGE_OVERHEAD
from relay.sessions.udp_stream import UdpStream
from tests.support.pattern import pattern
from tests.support.relays import (
    Leaks,
    on_both_loops,
    recorded_logs,
    routes_to,
    running,
    session_of,
    udp_claims,
)
from tests.support.targets import (
    UdpEchoTarget,
)
from tests.support.users import UdpUser
from tests.support.waiting import async_wait_until


class UdpTests(SimpleTestCase):
    @contextlib.asynccontextmanager
    async def _flow(
        self, target: str, given: RouteTable | None = None, **options: Any
    ) -> AsyncIterator[tuple[DevNode, Any]]:
        node_options = {"udp_ports": {5353: 0}}
        async with DevNode(**node_options) as probe:
            claims = udp_claims(probe)
        routes = given or routes_to(target, port=5353, transport="udp")
        async with running(claims=claims, routes=routes, options=node_options, **options) as (node, relay):
            yield node, relay

    @on_both_loops
    async def test_one_message_is_one_datagram(self) -> None:
        async with UdpEchoTarget() as target, self._flow(target.address) as (node, _):
            async with UdpUser(node.public_port("udp")) as user:
                for datagram in (
                    b"a",
                    b"",
                    b"bc",
                    pattern(1400),
                    pattern(9_000),
                    pattern(32_000),
                    pattern(MAX_PAYLOAD - 3),
                ):
                    user.send(datagram)
                    self.assertEqual(await user.receive(), b"re:" + datagram)
            self.assertEqual(len(target.peers), 1)

    @on_both_loops
    async def test_the_first_of_several_targets_that_can_be_had(self) -> None:
        async with UdpEchoTarget() as target:
            async with self._flow(f"unix:/nowhere,no-such-host.invalid:53,{target.address}") as (node, relay):
                async with UdpUser(node.public_port("udp")) as user:
                    user.send(b"a")
                    self.assertEqual(await user.receive(), b"re:a")
                    self.assertEqual([stream.target for stream in session_of(relay).live], [target.address])

    @on_both_loops
    async def test_each_datagram_has_its_proxy_header(self) -> None:
        async with UdpEchoTarget() as target:
            options = PortOptions(proxy_protocol=ProxyProtocol.V2)
            routes = RouteTable.build([PortRoutes("udp", 5353, default=target.address, options=options)])
            async with self._flow("", given=routes) as (node, _), UdpUser(node.public_port("udp")) as user:
                for datagram in (b"a", b"", pattern(1400)):
                    user.send(datagram)
                    got = (await user.receive()).removeprefix(b"re:")
                    self.assertTrue(got.endswith(datagram))
                    head = got[: len(got) - len(datagram)]
                    self.assertEqual(ProxyProtocolV2().unpack(head).dest[1], 5353)
                    self.assertEqual(head[13], 0x12)

    @on_both_loops
    async def test_datagrams_before_the_dial_is_done_wait(self) -> None:
        gate = asyncio.Event()
        async with UdpEchoTarget() as target:

            async def slow(request: Any) -> str:
                await gate.wait()
                raise NoRoute

            async with self._flow(target.address, connect_handler=slow) as (node, relay):
                async with UdpUser(node.public_port("udp")) as user:
                    for number in range(5):
                        user.send(b"%d" % number)
                    session = session_of(relay)
                    await async_wait_until(lambda: session.core.counters.data_received == 5, "5 datagrams")
                    gate.set()
                    self.assertEqual([await user.receive() for _ in range(5)], [b"re:%d" % n for n in range(5)])

    @on_both_loops
    async def test_what_waits_for_a_dial_is_bounded_by_bytes(self) -> None:
        """Large datagrams and many flows: each flow has its bound, and all of a session theirs."""

        async def never(request: Any) -> str:
            await asyncio.Event().wait()
            return ""

        with recorded_logs():
            async with self._flow("127.0.0.1:9", connect_handler=never) as (_, relay):
                session = session_of(relay)
                ids = [uuid.uuid4() for _ in range(8)]
                for flow in ids:
                    connect = Connect(flow.bytes, hostname="udp:5353", conn_port=5353, transport="udp")
                    session.binary_received(b"\x02" + encode(connect))
                    for size in (200_000, 60_000, 50_000, 1, 0, 0):
                        session.binary_received(b"\x01" + flow.bytes + bytes(size))
                session.batch_received()
                waiting = 260_001 + 5 * MESSAGE_OVERHEAD
                self.assertEqual([stream.queued for stream in session.live], [waiting] * 8)
                self.assertEqual(session.totals.datagrams_dropped, 8)
                with mock.patch("relay.sessions.stream_book.SESSION_BOUND", 5 * waiting):
                    for flow in ids:
                        session.book.queued(next(s for s in session.live if s.id == str(flow)), 1 << 20)
                self.assertEqual(session.totals.buffer_full, 3)
                await async_wait_until(lambda: len(session.live) == 5, "the end of those that were given up")

    @on_both_loops
    async def test_what_a_target_does_not_take_is_dropped_and_counted(self) -> None:
        class Full:
            def send(self, payload: object) -> None:
                raise BlockingIOError

        gate = asyncio.Event()

        async def slow(request: Any) -> str:
            await gate.wait()
            raise NoRoute

        with mock.patch("relay.sessions.udp_stream.UDP_QUEUE", 2):
            async with UdpEchoTarget() as target:
                async with self._flow(target.address, connect_handler=slow) as (node, relay):
                    async with UdpUser(node.public_port("udp")) as user:
                        session = session_of(relay)
                        for number in range(5):
                            user.send(b"%d" % number)
                        await async_wait_until(lambda: session.totals.datagrams_dropped == 3, "what does not fit")
                        gate.set()
                        self.assertEqual([await user.receive() for _ in range(2)], [b"re:0", b"re:1"])
                        (stream,) = session.live
                        assert isinstance(stream, UdpStream)
                        with mock.patch.object(stream, "_socket", Full()):
                            user.send(b"too much")
                            await async_wait_until(lambda: session.totals.datagrams_dropped == 4, "a full socket")
                        user.send(b"again")
                        self.assertEqual(await user.receive(), b"re:again")

    @on_both_loops
    async def test_a_datagram_that_is_too_long_is_dropped_and_counted(self) -> None:
        class Long(UdpEchoTarget):
            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                assert self._transport is not None
                self._transport.sendto(pattern(40_000), addr)
                self._transport.sendto(b"short", addr)

        async with Long() as target, self._flow(target.address) as (node, relay):
            async with UdpUser(node.public_port("udp")) as user:
                user.send(b"x")
                self.assertEqual(await user.receive(), b"short")
                self.assertEqual(session_of(relay).totals.datagrams_dropped, 1)

    @on_both_loops
    async def test_a_flow_outlives_a_target_that_is_down_for_a_while(self) -> None:
        async with UdpEchoTarget() as target:
            address, port = target.address, target.port
        async with self._flow(address) as (node, relay):
            async with UdpUser(node.public_port("udp")) as user:
                session = session_of(relay)
                user.send(b"lost")
                user.send(b"lost too")
                await async_wait_until(lambda: session.core.counters.data_received == 2, "2 datagrams")
                await async_wait_until(lambda: session.totals.datagrams_refused, "an ICMP error")
                again = UdpEchoTarget()
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(lambda: again, local_addr=("127.0.0.1", port))
                again._transport = transport
                again._socket.close()  # the one at a port of its own choice
                try:
                    # The first may still meet the error that the kernel has kept.
                    user.send(b"first")
                    user.send(b"second")
                    self.assertIn(await user.receive(), (b"re:first", b"re:second"))
                finally:
                    transport.close()
                self.assertEqual(session.core.counters.streams_opened, 1)

    @on_both_loops
    async def test_flows_that_end_leave_nothing(self) -> None:
        async with UdpEchoTarget() as target:
            leaks = Leaks()
            async with self._flow(target.address) as (node, relay):
                for _ in range(5):
                    async with contextlib.AsyncExitStack() as stack:
                        users = [await stack.enter_async_context(UdpUser(node.public_port("udp"))) for _ in range(10)]
                        for user in users:
                            user.send(b"x")
                        node.drop_sessions()
                        await relay.wait_up(10)
                        for user in users:
                            user.send(b"y")
            await leaks.check()
