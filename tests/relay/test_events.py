"""Tests of relay.events: what a program is told of sessions and streams."""

from __future__ import annotations

from time import monotonic, time

from django.test import SimpleTestCase

from relay import (
    Direction,
    ReauthCompleted,
    ReauthStarted,
    RelayEvent,
    SessionDown,
    SessionUp,
    StreamClosed,
    StreamConnected,
    StreamPaused,
    StreamRefused,
    StreamResumed,
    TokenProvider,
    TokenRequest,
)
from relay.config import Claims, Limits
from relay.devnode import mint_token
from tests.relay.sessions.test_socks import Program
from tests.support.pattern import pattern
from tests.support.ports import free_port
from tests.support.relays import (
    CLAIMS,
    DIALECTS,
    HOST,
    SECRET,
    on_both_loops,
    quick,
    recorded_logs,
    runner_of,
    running,
)
from tests.support.targets import EchoTarget, HttpTarget, refusing_target
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class Told(list[RelayEvent]):
    """What was told, in its order."""

    async def wait(self, count: int) -> None:
        """Wait until there are so many."""
        await async_wait_until(lambda: len(self) >= count, f"{count} events")


class EventTests(SimpleTestCase):
    @on_both_loops
    async def test_a_session_and_a_stream_from_beginning_to_end(self) -> None:
        for dialect in DIALECTS:
            told = Told()
            async with (
                EchoTarget() as target,
                running(target.address, dialect=dialect, on_event=told.append) as (
                    node,
                    _,
                ),
            ):
                self.assertEqual(told, [SessionUp("app", "", node.address, False)])
                data = HEAD + pattern(100_000)
                begun = monotonic()
                async with TcpUser(node.public_port()) as user:
                    await user.send(data)
                    self.assertEqual(await user.receive(len(data)), data)
                    await told.wait(2)
                    address = user.address
                await told.wait(3)
                _, connected, closed = told
                assert isinstance(connected, StreamConnected) and isinstance(closed, StreamClosed)
                self.assertEqual(connected.stream, closed.stream)
                stream = closed.stream
                self.assertEqual(
                    (stream.backend, stream.node, stream.hostname, stream.port, stream.transport),
                    ("app", node.address, HOST, 80, "tcp"),
                )
                self.assertEqual((stream.client_address, stream.target), (address, target.address))
                self.assertEqual((closed.bytes_received, closed.bytes_sent, closed.reason), (len(data), len(data), ""))
                # The loop's clock counts whole milliseconds with uvloop: a short stream may have taken none.
                self.assertGreaterEqual(closed.seconds, 0)
                self.assertLess(closed.seconds, monotonic() - begun + 0.001)
                with recorded_logs():
                    node.drop_sessions()
                    await told.wait(5)
                down, up = told[3:5]
                assert isinstance(down, SessionDown)
                self.assertTrue(down.was_up and down.problem and down.retry_in is not None)
                self.assertEqual(up, told[0])
            self.assertEqual(told[-1], SessionDown("app", "", node.address, True, "closed by the relay", None))

    @on_both_loops
    async def test_each_says_when_it_happened(self) -> None:
        told, before = Told(), time()
        async with running(on_event=told.append):
            await told.wait(1)
        times = [before, *(event.at for event in told), time()]
        self.assertEqual((len(told), times), (2, sorted(times)))

    @on_both_loops
    async def test_a_re_authentication(self) -> None:
        told = Told()
        async with running(on_event=told.append) as (node, _):
            node.challenge_all()
            await told.wait(3)
            started, completed = told[1:3]
            self.assertEqual(started, ReauthStarted("app", "", node.address))
            assert isinstance(completed, ReauthCompleted)
            self.assertEqual((completed.node, completed.problem), (node.address, ""))
            self.assertGreaterEqual(completed.seconds, 0)
            await async_wait_until(lambda: node.counters.reauths == 1, "its success")

    @on_both_loops
    async def test_a_re_authentication_without_a_token(self) -> None:
        told = Told()

        async def fails(request: TokenRequest) -> str:
            if request.stage == "reauth":
                raise ValueError("not today")
            return mint_token(SECRET, CLAIMS.hostnames, session_nonce=request.nonce or None)

        with recorded_logs():
            timings = quick(reauth_retry=0.001)
            async with running(on_event=told.append, credential=TokenProvider(fails), timings=timings) as (node, _):
                node.challenge_all()
                await told.wait(3)
                completed = told[2]
                assert isinstance(completed, ReauthCompleted)
                self.assertIn("ValueError", completed.problem)

    @on_both_loops
    async def test_a_download_that_its_user_does_not_read(self) -> None:
        told = Told()
        async with HttpTarget() as target, running(target.address, on_event=told.append) as (node, _):
            async with TcpUser(node.public_port()) as user:
                await user.send(request_head(HOST, "/source/50000000"))
                await told.wait(3)
                paused = told[2]
                assert isinstance(paused, StreamPaused)
                self.assertEqual((paused.stream.hostname, paused.direction), (HOST, Direction.DOWNLOAD))
                await user.receive(40_000_000, timeout=60)
                await async_wait_until(lambda: any(isinstance(event, StreamResumed) for event in told), "its end")

    @on_both_loops
    async def test_refusals_say_why(self) -> None:
        for target, words in ((refusing_target(), "dial failed: "), ("", "no route")):
            told = Told()
            with recorded_logs():
                async with running(target, on_event=told.append) as (node, _):
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive_all(), b"")
                    await told.wait(2)
            refused = told[1]
            assert isinstance(refused, StreamRefused)
            self.assertEqual((refused.reason, refused.stream.hostname), ("dial_failed", HOST))
            self.assertIn(words, refused.problem)
            self.assertFalse([event for event in told if isinstance(event, StreamClosed)])

    @on_both_loops
    async def test_a_stream_above_a_limit(self) -> None:
        told = Told()
        with recorded_logs():
            async with EchoTarget() as target:
                async with running(target.address, limits=Limits(max_streams=1), on_event=told.append) as (node, _):
                    async with TcpUser(node.public_port()) as first, TcpUser(node.public_port()) as second:
                        await first.send(HEAD)
                        self.assertEqual(await first.receive(len(HEAD)), HEAD)
                        await second.send(HEAD)
                        self.assertEqual(await second.receive_all(), b"")
                    await told.wait(4)
        refused = told[2]
        assert isinstance(refused, StreamRefused)
        self.assertEqual((refused.reason, refused.problem), ("buffer_full", "no more streams are taken"))

    @on_both_loops
    async def test_outbound_streams(self) -> None:
        told = Told()
        port = free_port()
        claims = Claims(hostnames=(HOST,), outbound_allowed=True)
        async with EchoTarget() as target:
            async with running(claims=claims, socks5_listen=f"127.0.0.1:{port}", on_event=told.append) as (_, relay):
                runner = runner_of(relay)
                await async_wait_until(lambda: runner._socks and runner._socks._server, "the listener")
                async with Program(port) as program:
                    self.assertEqual(await program.connect("127.0.0.1", target.port), 0)
                    program.writer.write(b"hello")
                    self.assertEqual(await program.receive(5), b"hello")
                await told.wait(3)
        connected, closed = told[1:3]
        assert isinstance(connected, StreamConnected) and isinstance(closed, StreamClosed)
        self.assertEqual(connected.stream.target, target.address)
        self.assertEqual((closed.bytes_received, closed.bytes_sent), (5, 5))

    @on_both_loops
    async def test_a_callback_that_fails_breaks_nothing_and_is_logged_once(self) -> None:
        def fail(event: RelayEvent) -> None:
            raise ValueError("not today")

        with recorded_logs() as logs:
            async with EchoTarget() as target, running(target.address, on_event=fail) as (node, _):
                for _ in range(3):
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive(len(HEAD)), HEAD)
        self.assertEqual(logs.text().count("the event callback failed"), 1)
