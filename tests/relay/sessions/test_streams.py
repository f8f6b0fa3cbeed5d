"""Tests of relay.sessions.streams: bytes, order, endings, bounds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from django.test import SimpleTestCase
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from relay import Claims, HealthCheckOptions, NoRoute, PortRoutes, RelayConfig, RouteTable
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.devnode import DevNode
from relay.protocol.messages import Reason
from relay.sessions.udp_stream import UdpStream
from tests.support.pattern import pattern, pattern_hash
from tests.support.relays import (
    DIALECTS,
    HOST,
    Leaks,
    backend_for,
    inside_of,
    on_both_loops,
    quick,
    recorded_logs,
    routes_to,
    running,
    session_of,
    udp_claims,
)
from tests.support.targets import (
    ClosingTarget,
    DeafTarget,
    EchoTarget,
    HttpTarget,
    SpeakingTarget,
    Target,
    UdpEchoTarget,
    refusing_target,
    silent_target,
    unix_echo_target,
)
from tests.support.users import TcpUser, UdpUser, download, http_get, request_head, upload
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class ResponseTarget(Target):
    """Answers with as many bytes as the path says and closes at once."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(pattern(int(head.split(b" ", 2)[1][1:])))


class SwallowingTarget(Target):
    """Reads all up to EOF and keeps its hash."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[tuple[int, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        digest, size = hashlib.sha256(), 0
        while data := await reader.read(65536):
            digest.update(data)
            size += len(data)
        self.received.append((size, digest.hexdigest()))


class ResettingTarget(Target):
    """Sends a little and resets the connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def assert_clean(test: SimpleTestCase, node: DevNode) -> None:
    """The node saw no credit overrun and dropped nothing."""
    counters = node.counters
    test.assertEqual(
        (counters.over_sends, counters.sends_without_credit, counters.lane_drops, counters.malformed), (0, 0, 0, 0)
    )


async def echo_once(user: TcpUser, data: bytes) -> bytes:
    """Send ``data`` and return as many bytes."""
    sending = asyncio.create_task(user.send(data))
    received = await user.receive(len(data), timeout=30)
    await sending
    return received


class BytesTests(SimpleTestCase):
    @on_both_loops
    async def test_bytes_are_exact_both_ways_at_once(self) -> None:
        # Without credits nothing keeps users from overfilling the node's lane: what they send must fit into it.
        for dialect, size in (("attested", 3_000_000), ("token", 200_000)):
            async with EchoTarget() as target, running(target.address, dialect=dialect) as (node, _):

                async def one(number: int, size: int = size) -> bool:
                    async with TcpUser(node.public_port()) as user:
                        data = HEAD + pattern(size + number * 7919)[number:]
                        return hashlib.sha256(await echo_once(user, data)).digest() == hashlib.sha256(data).digest()

                self.assertEqual(await asyncio.gather(*(one(number) for number in range(8))), [True] * 8)
                assert_clean(self, node)

    @on_both_loops
    async def test_many_uploads_at_once_lose_nothing_in_the_lane(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, _):
            for users in (8, 16, 32):
                size = 12_000_000 // users
                answers = await asyncio.gather(*(upload(node.public_port(), HOST, size) for _ in range(users)))
                self.assertEqual(answers, [b"OK\n"] * users)
                self.assertEqual(target.sinks[-users:], [pattern_hash(size)] * users)
            assert_clean(self, node)
            self.assertEqual(node.counters.users_killed, 0)

    @on_both_loops
    async def test_data_before_the_dial_is_done_waits(self) -> None:
        for dialect in DIALECTS:
            gate = asyncio.Event()
            async with EchoTarget() as target:

                async def slow(request: Any, gate: asyncio.Event = gate, address: str = target.address) -> str:
                    await gate.wait()
                    return address

                async with (
                    running(dialect=dialect, connect_handler=slow) as (node, relay),
                    TcpUser(node.public_port()) as user,
                ):
                    data = HEAD + pattern(300_000)
                    await user.send(data)
                    session = session_of(relay)
                    await async_wait_until(lambda session=session: session.core.counters.data_received > 2, "some data")
                    gate.set()
                    self.assertEqual(await user.receive(len(data)), data)
                    assert_clean(self, node)

    @on_both_loops
    async def test_a_first_message_of_64_kib(self) -> None:
        async with EchoTarget() as target, running(target.address) as (node, _), TcpUser(node.public_port()) as user:
            head = request_head(HOST, "/", headers={"Cookie": "c" * 40_000})
            self.assertEqual(await echo_once(user, head), head)

    @on_both_loops
    async def test_a_target_that_speaks_first(self) -> None:
        async with SpeakingTarget(b"220 ready\r\n") as target:
            async with running(target.address) as (node, _), TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                self.assertEqual(await user.receive(11 + len(HEAD)), b"220 ready\r\n" + HEAD)

    @on_both_loops
    async def test_a_unix_socket(self) -> None:
        async with unix_echo_target() as target, running(target.address) as (node, _):
            async with TcpUser(node.public_port()) as user:
                data = HEAD + pattern(500_000)
                self.assertEqual(await echo_once(user, data), data)

    @on_both_loops
    async def test_an_ipv6_target(self) -> None:
        async with ipv6_echo() as port, running(f"[::1]:{port}") as (node, _):
            async with TcpUser(node.public_port()) as user:
                self.assertEqual(await echo_once(user, HEAD), HEAD)

    @on_both_loops
    async def test_localhost_with_one_family_listening(self) -> None:
        async with EchoTarget() as four, ipv6_echo() as six:
            for port in (four.port, six):
                async with running(f"localhost:{port}") as (node, relay):
                    both = [(int(socket.AF_INET), "127.0.0.1"), (int(socket.AF_INET6), "::1")]
                    for order in (both, both[::-1]):
                        # What /etc/hosts says differs from machine to machine.
                        dialer = inside_of(relay).tenant_targets("").dialer
                        dialer.names._resolved["localhost"] = (asyncio.get_running_loop().time() + 60, order)
                        async with TcpUser(node.public_port()) as user:
                            self.assertEqual(await echo_once(user, HEAD), HEAD)


@contextlib.asynccontextmanager
async def ipv6_echo() -> AsyncIterator[int]:
    """The port of an echo at ::1."""
    echo = EchoTarget()
    server = await asyncio.start_server(echo._accept, "::1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        echo.drop()


class FailedDialTests(SimpleTestCase):
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


class EndingTests(SimpleTestCase):
    @on_both_loops
    async def test_what_a_target_sent_arrives_before_its_end(self) -> None:
        """Several hundred answers of 0 to 300 KB, closed at once, to fast and slow users."""
        for dialect in DIALECTS:
            async with ResponseTarget() as target, running(target.address, dialect=dialect) as (node, _):
                gate = asyncio.Semaphore(32)

                async def one(number: int, gate: asyncio.Semaphore = gate, node: DevNode = node) -> bool:
                    size = (number * 2963) % 300_001
                    async with gate, TcpUser(node.public_port()) as user:
                        await user.send(request_head(HOST, f"/{size}"))
                        if number % 8 == 0:
                            received = bytearray()
                            while data := await user.reader.read(4096):
                                received += data
                                await asyncio.sleep(0)
                            return bytes(received) == pattern(size)
                        return await user.receive_all(timeout=30) == pattern(size)

                self.assertEqual([n for n, ok in enumerate(await asyncio.gather(*map(one, range(300)))) if not ok], [])
                assert_clean(self, node)

    @on_both_loops
    async def test_an_end_waits_for_a_user_who_is_not_reading_yet(self) -> None:
        """More than all credits and buffers hold, so that the end comes while data is held back."""
        size = 24_000_000
        for dialect in DIALECTS:
            async with HttpTarget() as target, running(target.address, dialect=dialect) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    user.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await user.send(request_head(HOST, f"/source/{size}"))
                    session = session_of(relay)
                    await async_wait_until(lambda s=session: s.core.counters.data_sent > 64, "a full user")
                    user.writer.transport.resume_reading()  # type: ignore[attr-defined]
                    received = await user.receive_all(timeout=30)
                    self.assertEqual(hashlib.sha256(received).hexdigest(), pattern_hash(size))
                assert_clean(self, node)

    @on_both_loops
    async def test_the_tail_of_an_upload_reaches_the_target_when_its_user_left(self) -> None:
        for dialect in DIALECTS:
            async with SwallowingTarget() as target, running(target.address, dialect=dialect) as (node, relay):

                async def one() -> None:
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD + pattern(700_000))
                        user.send_eof()
                        await user.receive_all()

                await asyncio.gather(*(one() for _ in range(16)))
                await async_wait_until(lambda target=target: len(target.received) == 16, "16 uploads")
                whole = HEAD + pattern(700_000)
                self.assertEqual(set(target.received), {(len(whole), hashlib.sha256(whole).hexdigest())})
                await async_wait_until(lambda relay=relay: not relay.stats().held, "no streams")

    @on_both_loops
    async def test_the_tail_survives_a_drained_stop(self) -> None:
        """The user left and the target is slow: a stop with time to drain waits for the rest."""
        gate = asyncio.Event()

        class Late(SwallowingTarget):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await gate.wait()
                await super().serve(reader, writer)

        async with Late() as target, running(target.address) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD + pattern(200_000))
                user.send_eof()
                await user.receive_all()
            self.assertEqual(session_of(relay).streams, 0)
            stopping = asyncio.create_task(relay.stop(10))
            await asyncio.sleep(0)
            gate.set()
            await stopping
            await async_wait_until(lambda: target.received, "the upload")
            self.assertEqual(target.received[0][0], len(HEAD) + 200_000)

    @on_both_loops
    async def test_a_target_that_resets_ends_only_its_stream(self) -> None:
        for dialect in DIALECTS:
            async with ResettingTarget() as target, EchoTarget() as echo:
                routes = RouteTable.build([*routes_to(target.address), *routes_to(echo.address, port=81)])
                options = {"http_ports": {80: 0, 81: 0}}
                async with running(dialect=dialect, routes=routes, options=options) as (node, relay):
                    async with TcpUser(node.public_port("http", 81)) as other:
                        await echo_once(other, HEAD)
                        for _ in range(5):
                            async with TcpUser(node.public_port("http", 80)) as user:
                                await user.send(HEAD)
                                self.assertEqual(await user.receive_all(), b"")
                        self.assertEqual(await echo_once(other, pattern(100_000)), pattern(100_000))
                    await async_wait_until(lambda relay=relay: not relay.stats().held, "no streams")
                    self.assertGreaterEqual(node.counters.disconnect_reasons.get(Reason.LOCAL_ERROR, 0), 5)

    @on_both_loops
    async def test_a_target_that_closes_at_once(self) -> None:
        async with ClosingTarget() as target, running(target.address) as (node, relay):
            for _ in range(20):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertEqual(await user.receive_all(), b"")
            await async_wait_until(lambda: not relay.stats().held, "no streams")

    @on_both_loops
    async def test_a_user_still_sending_gets_the_answer_of_a_target_that_left(self) -> None:
        """A target that answers and goes away in the midst of an upload: what is left of it is thrown away."""
        size = 24_000_000

        class Early(Target):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(pattern(size))
                await writer.drain()

        async with Early() as target, running(target.address) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                user.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await user.send(HEAD)
                session = session_of(relay)
                await async_wait_until(lambda: session.core.counters.data_sent > 60, "an answer under way")
                user.writer.transport.resume_reading()  # type: ignore[attr-defined]
                received = await user.receive_all(timeout=30)
                self.assertEqual(hashlib.sha256(received).hexdigest(), pattern_hash(size))

    @on_both_loops
    async def test_a_target_that_answered_and_reads_no_more_is_given_up(self) -> None:
        """It has shut its side down and takes nothing of what is left for it: it must not stay for ever."""

        class HalfDeaf(Target):
            async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await gate.wait()
                writer.write_eof()
                await done.wait()

        gate, done = asyncio.Event(), asyncio.Event()
        with recorded_logs():
            timings = quick(flush_stall=0.1)
            async with HalfDeaf() as target, running(target.address, timings=timings) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    flood = asyncio.create_task(user.send(HEAD + pattern(16_000_000)))
                    session = session_of(relay)
                    seen = -1
                    while seen != session.core.counters.data_received:  # until the credits are spent
                        seen = session.core.counters.data_received
                        await asyncio.sleep(0.1)
                    gate.set()
                    await user.receive_all()
                    await asyncio.gather(flood, return_exceptions=True)
                    await async_wait_until(lambda: not relay.stats().held, "no streams")
                done.set()


class SlowPeerTests(SimpleTestCase):
    @on_both_loops
    async def test_a_target_that_reads_nothing_slows_nobody(self) -> None:
        for dialect in DIALECTS:
            async with DeafTarget() as deaf, HttpTarget() as target:
                routes = RouteTable.build([*routes_to(deaf.address), *routes_to(target.address, port=81)])
                options = {"http_ports": {80: 0, 81: 0}}
                with recorded_logs():
                    async with running(dialect=dialect, routes=routes, options=options) as (node, relay):
                        async with TcpUser(node.public_port("http", 80)) as stuck:
                            flood = asyncio.create_task(stuck.send(HEAD + pattern(30_000_000)))
                            await async_wait_until(lambda deaf=deaf: deaf.accepted == 1, "the deaf target")
                            got = await download(node.public_port("http", 81), HOST, 20_000_000)
                            self.assertEqual(got.sha256, pattern_hash(20_000_000))
                            answer = await upload(node.public_port("http", 81), HOST, 5_000_000)
                            self.assertEqual(answer, b"OK\n")
                            totals = session_of(relay).totals
                            if dialect == "attested":
                                self.assertEqual((totals.buffer_full, flood.done()), (0, False))
                            else:
                                await async_wait_until(lambda totals=totals: totals.buffer_full == 1, "buffer_full")
                                await async_wait_until(
                                    lambda node=node: node.counters.disconnect_reasons.get(Reason.BUFFER_FULL) == 1,
                                    "its disconnect",
                                )
                            flood.cancel()
                            await asyncio.gather(flood, return_exceptions=True)
                        self.assertEqual(node.counters.users_killed, 0)

    @on_both_loops
    async def test_a_user_who_reads_nothing_slows_nobody(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, _):
            async with TcpUser(node.public_port()) as stuck:
                stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await stuck.send(request_head(HOST, "/source/50000000"))
                for _ in range(2):
                    got = await download(node.public_port(), HOST, 10_000_000)
                    self.assertEqual(got.sha256, pattern_hash(10_000_000))
            assert_clean(self, node)

    @on_both_loops
    async def test_without_credits_a_target_that_falls_behind_gets_all_within_the_bound(self) -> None:
        gate, size = asyncio.Event(), 6_000_000
        async with HttpTarget() as target:

            async def slow(request: Any) -> str:
                await gate.wait()
                return target.address

            async with running(dialect="token", connect_handler=slow) as (node, relay):
                sending = asyncio.create_task(upload(node.public_port(), HOST, size))
                session = session_of(relay)
                await async_wait_until(lambda: session.core.counters.bytes_received > size, "the whole upload")
                gate.set()
                self.assertEqual(await sending, b"OK\n")
                self.assertEqual(target.sinks, [pattern_hash(size)])
                self.assertEqual(session.totals.buffer_full, 0)

    @on_both_loops
    async def test_without_credits_who_exceeds_the_bound_loses_the_stream(self) -> None:
        """The bound of the stream, or, being the one with the most, that of the session."""

        async def never(request: Any) -> str:
            await asyncio.Event().wait()
            return ""

        for size, bound in ((12_000_000, 48 << 20), (6_000_000, 4 << 20)):
            with recorded_logs(), mock.patch("relay.sessions.stream_book.SESSION_BOUND", bound):
                async with running(dialect="token", connect_handler=never) as (node, relay):
                    self.assertEqual(await upload(node.public_port(), HOST, size), b"")
                    self.assertEqual(session_of(relay).totals.buffer_full, 1)
                    await async_wait_until(lambda relay=relay: not relay.stats().held, "no streams")
                    self.assertEqual(node.counters.disconnect_reasons, {Reason.BUFFER_FULL: 1})


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
                for datagram in (b"a", b"", b"bc", pattern(1400), pattern(30_000)):
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
