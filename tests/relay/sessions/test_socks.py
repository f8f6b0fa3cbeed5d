"""Tests of relay.sessions.socks: local programs that leave by the node."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import Claims, Relay, RelayConfig, Timings
from relay.config import Limits
from relay.devnode import DevNode
from relay.sessions.socks import Reply, reply_for
from tests.support.pattern import pattern
from tests.support.ports import free_port
from tests.support.relays import HOST, Leaks, on_both_loops, quick, recorded_logs, runner_of, running, session_of
from tests.support.targets import EchoTarget, refusing_target
from tests.support.waiting import async_wait_until

OUTBOUND = Claims(hostnames=(HOST,), outbound_allowed=True)


def request(address: str, port: int, command: int = 1) -> bytes:
    """A SOCKS request for a name or an address."""
    try:
        packed = ipaddress.ip_address(address).packed
        kind = 1 if len(packed) == 4 else 4
    except ValueError:
        packed, kind = bytes([len(address)]) + address.encode(), 3
    return struct.pack("!BBBB", 5, command, 0, kind) + packed + struct.pack("!H", port)


class Program:
    """A local program that speaks SOCKS5."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Program:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.transport.abort()

    async def greet(self) -> bytes:
        """Offer no authentication."""
        self.writer.write(b"\x05\x01\x00")
        return await self.receive(2)

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        async with asyncio.timeout(10):
            return await self.reader.readexactly(size)

    async def connect(self, address: str, port: int, more: bytes = b"") -> int:
        """Ask for a connection; return the reply."""
        await self.greet()
        self.writer.write(request(address, port) + more)
        return (await self.receive(10))[1]

    async def rest(self) -> bytes:
        """All up to the end."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def egress(
    claims: Claims = OUTBOUND, timings: Timings | None = None, **options: Any
) -> AsyncIterator[tuple[DevNode, Relay, int]]:
    """A relay with a SOCKS5 listener."""
    port = free_port()
    async with running(claims=claims, socks5_listen=f"127.0.0.1:{port}", options=options, timings=timings) as (
        node,
        relay,
    ):
        runner = runner_of(relay)
        await async_wait_until(lambda: runner._socks and runner._socks._server, "the listener")
        yield node, relay, port


class SocksTests(SimpleTestCase):
    @on_both_loops
    async def test_bytes_are_exact_both_ways(self) -> None:
        leaks = Leaks()
        async with EchoTarget() as target, egress() as (node, relay, port):

            async def one(number: int) -> None:
                async with Program(port) as program:
                    name = ("127.0.0.1", "localhost")[number % 2]
                    first = pattern(100 * number)
                    self.assertEqual(await program.connect(name, target.port, first), Reply.SUCCEEDED)
                    self.assertEqual(await program.receive(len(first)), first)
                    data = pattern(1_000_000 + number)

                    async def send() -> None:
                        program.writer.write(data)
                        await program.writer.drain()

                    sending = asyncio.create_task(send())
                    self.assertEqual(await program.receive(len(data)), data)
                    await sending

            await asyncio.gather(*(one(number) for number in range(8)))
            counters = node.counters
            self.assertEqual((counters.over_sends, counters.sends_without_credit, counters.lane_drops), (0, 0, 0))
            await async_wait_until(lambda: not relay.stats().held and not session_of(relay).streams, "no streams")
        await leaks.check()

    @on_both_loops
    async def test_the_far_end_closes(self) -> None:
        class Greeting(EchoTarget):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(pattern(3_000_000))

        async with Greeting() as target, egress() as (_, relay, port):
            async with Program(port) as program:
                self.assertEqual(await program.connect("127.0.0.1", target.port), Reply.SUCCEEDED)
                self.assertEqual(await program.rest(), pattern(3_000_000))
            await async_wait_until(lambda: not relay.stats().held, "no streams")

    @on_both_loops
    async def test_a_full_session_holds_back_the_first_bytes_too(self) -> None:
        """What a program sends while the session takes nothing is bounded."""
        async with EchoTarget() as target, egress() as (_, relay, port):
            session = session_of(relay)
            async with Program(port) as program:
                connection = session._connection
                assert connection is not None
                await program.greet()
                with mock.patch.object(connection, "write_blocked", True):
                    program.writer.write(request("127.0.0.1", target.port) + pattern(200_000))
                    self.assertEqual((await program.receive(10))[1], Reply.SUCCEEDED)
                    program.writer.write(pattern(8_000_000))
                    for _ in range(50):
                        await asyncio.sleep(0)
                    (stream,) = session.live
                    self.assertLess(len(stream._held), 400_000)
                session.writing_resumed()
                self.assertEqual(await program.receive(8_200_000), pattern(200_000) + pattern(8_000_000))

    def test_replies_for_the_nodes_words(self) -> None:
        for reason, reply in (
            ("dial failed", Reply.REFUSED),
            ("outbound disabled", Reply.NOT_ALLOWED),
            ("outbound port 22 not allowed for this backend", Reply.NOT_ALLOWED),
            ("stream id is in use", Reply.FAILURE),
            ("", Reply.FAILURE),
        ):
            self.assertEqual(reply_for(reason), reply, reason)

    @on_both_loops
    async def test_refusals(self) -> None:
        async with refusing_target() as address, egress() as (node, _, port):
            refused = int(address.rpartition(":")[2])
            for host, number, reply in (
                ("127.0.0.1", refused, Reply.REFUSED),
                ("no-such-host.invalid", 80, Reply.REFUSED),
                ("sp ace", 80, Reply.ADDRESS_NOT_SUPPORTED),
            ):
                async with Program(port) as program:
                    self.assertEqual(await program.connect(host, number), reply, host)
                    self.assertEqual(await program.rest(), b"")
            for command in (2, 3):
                async with Program(port) as program:
                    await program.greet()
                    program.writer.write(request("127.0.0.1", 80, command))
                    self.assertEqual((await program.receive(10))[1], Reply.COMMAND_NOT_SUPPORTED)
        async with egress(replace(OUTBOUND, allowed_outbound_ports=(25,))) as (node, _, port):
            async with Program(port) as program:
                self.assertEqual(await program.connect("127.0.0.1", 80), Reply.NOT_ALLOWED)
            node.drop_sessions()
        async with egress(Claims(hostnames=(HOST,))) as (_, _, port):
            async with Program(port) as program:
                self.assertEqual(await program.connect("127.0.0.1", 80), Reply.NOT_ALLOWED)

    @on_both_loops
    async def test_what_is_not_socks_is_dropped(self) -> None:
        async with egress() as (_, relay, port):
            for data, answer in (
                (b"GET / HTTP/1.1\r\n\r\n", b""),
                (b"\x04\x01", b""),
                (b"\x05\x01\x02", b"\x05\xff"),
                (b"\x05\x00", b"\x05\xff"),
                (b"\x05\x01\x00" + b"\x04" * 20, b"\x05\x00" + bytes((5, 1, 0, 1)) + bytes(6)),
            ):
                async with Program(port) as program:
                    program.writer.write(data)
                    self.assertEqual(await program.rest(), answer, data)
            self.assertEqual(session_of(relay).streams, 0)

    @on_both_loops
    async def test_a_program_that_says_nothing_is_let_go(self) -> None:
        async with egress(timings=quick(socks_greeting=0.05)) as (_, _, port), Program(port) as program:
            self.assertEqual(await program.rest(), b"")

    @on_both_loops
    async def test_no_answer_of_the_node(self) -> None:
        async with egress(timings=quick(socks_result=0.1)) as (node, relay, port):
            node.freeze()
            async with Program(port) as program:
                self.assertEqual(await program.connect("127.0.0.1", 80), Reply.FAILURE)
            node.thaw()
            self.assertEqual(session_of(relay).streams, 0)

    @on_both_loops
    async def test_a_program_that_leaves_while_the_node_dials(self) -> None:
        async with EchoTarget() as target, egress() as (node, relay, port):
            node.freeze()
            async with Program(port) as program:
                await program.greet()
                program.writer.write(request("127.0.0.1", target.port))
                await async_wait_until(lambda: session_of(relay).streams == 1, "the request")
            await async_wait_until(lambda: session_of(relay).streams == 0, "its end")
            node.thaw()
            await async_wait_until(lambda: not relay.stats().held and not target.open, "nothing")

    @on_both_loops
    async def test_programs_that_wait_for_the_node_count_as_streams(self) -> None:
        async with EchoTarget() as target, egress() as (node, relay, port):
            backend = runner_of(relay).config
            relay.apply(RelayConfig({"app": replace(backend, limits=Limits(max_streams=1))}))
            async with Program(port) as first, Program(port) as second:
                node.freeze()
                await first.greet()
                first.writer.write(request("127.0.0.1", target.port))
                await async_wait_until(lambda: session_of(relay).streams == 1, "the request")
                self.assertEqual(await second.connect("127.0.0.1", target.port), Reply.FAILURE)
                node.thaw()
                self.assertEqual((await first.receive(10))[1], Reply.SUCCEEDED)
                self.assertEqual(runner_of(relay)._allowance.streams, 1)
            await async_wait_until(lambda: not relay.stats().held, "its end")
            self.assertEqual(runner_of(relay)._allowance.streams, 0)

    @on_both_loops
    async def test_a_session_lost_meanwhile(self) -> None:
        with recorded_logs():
            async with EchoTarget() as target, egress() as (node, relay, port):
                async with Program(port) as program, Program(port) as waiting:
                    self.assertEqual(await program.connect("127.0.0.1", target.port), Reply.SUCCEEDED)
                    node.freeze()
                    await waiting.greet()
                    waiting.writer.write(request("127.0.0.1", target.port))
                    await async_wait_until(lambda: session_of(relay).streams == 2, "the request")
                    node.thaw()
                    node.drop_sessions()
                    self.assertEqual(await program.rest(), b"")
                    self.assertIn((await waiting.rest())[1:2], (bytes([Reply.FAILURE]), bytes([Reply.SUCCEEDED])))
                await async_wait_until(lambda: not relay.stats().held, "no streams")

    @on_both_loops
    async def test_the_address_moves_to_another_backend(self) -> None:
        with recorded_logs():
            timings = quick(socks_listen_retry=0.05)
            async with EchoTarget() as target, egress(timings=timings) as (_, relay, port):
                backend = relay.config.backends["app"]
                moved = {
                    "new": replace(backend, key="new", name="new"),
                    "app": replace(backend, socks5_listen=""),
                }
                relay.apply(RelayConfig(MappingProxyType(moved)))
                await relay.wait_up(10)
                runner = runner_of(relay, "new")
                await async_wait_until(lambda: runner._socks._server, "the listener")
                async with Program(port) as program:
                    self.assertEqual(await program.connect("127.0.0.1", target.port), Reply.SUCCEEDED)

    @on_both_loops
    async def test_an_address_that_is_not_loopback_is_refused_in_words(self) -> None:
        with recorded_logs() as logs:
            async with running(claims=OUTBOUND, socks5_listen="0.0.0.0:1080") as (_, _):
                await async_wait_until(lambda: "not on loopback" in logs.text(), "the error")
                self.assertIn("ALLOW_SOCKS5_BEYOND_LOOPBACK", logs.text())

    @on_both_loops
    async def test_whoever_runs_the_relay_may_listen_beyond_loopback(self) -> None:
        port = free_port()
        with recorded_logs() as logs:
            async with EchoTarget() as target, running(claims=OUTBOUND) as (_, closed):
                open_to_all = Relay(
                    [replace(closed.config.backends["app"], socks5_listen=f"0.0.0.0:{port}")],
                    socks5_beyond_loopback=True,
                    timings=quick(),
                )
                async with open_to_all:
                    await open_to_all.wait_up(10)
                    await async_wait_until(lambda: "SOCKS5 listener open" in logs.text(), "the listener")
                    async with Program(port) as program:
                        self.assertEqual(await program.connect("127.0.0.1", target.port), Reply.SUCCEEDED)
        self.assertIn("what reaches it may connect out through the node", logs.text())
