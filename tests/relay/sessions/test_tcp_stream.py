"""Tests of relay.sessions.tcp_stream: bytes, order, endings, bounds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import RouteTable
from relay.devnode import DevNode
from relay.network.names import _Answer
from relay.protocol.messages import Connect, Reason, encode
from relay.sessions.streams import MESSAGE_OVERHEAD
from tests.support.pattern import pattern, pattern_hash
from tests.support.relays import (
    DIALECTS,
    HOST,
    inside_of,
    on_both_loops,
    quick,
    recorded_logs,
    routes_to,
    running,
    session_of,
)
from tests.support.targets import (
    ClosingTarget,
    DeafTarget,
    EchoTarget,
    HttpTarget,
    SpeakingTarget,
    Target,
    unix_echo_target,
)
from tests.support.users import TcpUser, download, request_head, upload
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
                        until = asyncio.get_running_loop().time() + 60
                        dialer.names._resolved["localhost"] = _Answer(order, until, until)
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
    async def test_many_small_messages_count_with_what_they_cost(self) -> None:
        gate = asyncio.Event()
        async with HttpTarget() as target:

            async def slow(request: Any) -> str:
                await gate.wait()
                return target.address

            async with running(dialect="token", connect_handler=slow) as (_, relay):
                session = session_of(relay)
                user = uuid.uuid4().bytes
                session.binary_received(b"\x02" + encode(Connect(user, hostname=HOST, conn_port=80)))
                for payload in (b"", b"", b"G", b"ET"):
                    session.binary_received(b"\x01" + user + payload)
                session.batch_received()
                (stream,) = session.live
                self.assertEqual(stream.queued, 4 * MESSAGE_OVERHEAD + 3)
                gate.set()
                await async_wait_until(lambda: stream.connected and not stream.queued, "the messages' delivery")

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
