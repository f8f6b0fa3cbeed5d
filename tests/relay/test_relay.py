"""Tests of relay.relay and of connect handlers: the relay as a library."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay import (
    AttestationOptions,
    ConnectRequest,
    Dial,
    NoRoute,
    Refused,
    Relay,
    RelayConfig,
    Target,
    TokenProvider,
    TokenRequest,
    memory_stream,
    parse_target,
)
from relay.config.targets import parse_targets
from relay.devnode import DevNode
from relay.protocol.events import Stage
from relay.protocol.messages import Reason
from relay.targets.dialing import Dialer
from relay.tokens.mint import mint
from tests.support.pattern import pattern
from tests.support.processes import ROOT
from tests.support.relays import (
    DIALECTS,
    HOST,
    SECRET,
    Leaks,
    backend_for,
    on_both_loops,
    presigned,
    quick,
    recorded_logs,
    running,
    session_of,
    sessions_of,
    udp_claims,
)
from tests.support.targets import EchoTarget, HttpTarget, refusing_target, silent_target
from tests.support.users import TcpUser, UdpUser, http_get, request_head
from tests.support.waiting import async_wait_until

HEAD = request_head(HOST, "/")


class TokenProviderTests(SimpleTestCase):
    @on_both_loops
    async def test_sessions_of_both_dialects_come_up_with_a_programs_own_tokens(self) -> None:
        async def provide(request: TokenRequest) -> str:
            if request.stage == "handshake" and not attested:
                return presigned().token
            options = AttestationOptions()
            return mint(
                request.backend, request.claims, options, SECRET, stage=Stage(request.stage), nonce=request.nonce
            )

        for attested in (True, False):
            dialect = "attested" if attested else "token"
            credential = TokenProvider(provide, attested=attested)
            async with EchoTarget() as target:
                async with running(target.address, dialect=dialect, credential=credential) as (node, relay):
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive(len(HEAD)), HEAD)
                    session = session_of(relay)
                    again = replace(relay.config.backends["app"], credential=TokenProvider(provide, attested=attested))
                    relay.apply(RelayConfig(MappingProxyType({"app": again})))
                    self.assertEqual(sessions_of(relay), [session])


class HandlerTests(SimpleTestCase):
    async def _echoes(self, node: DevNode, size: int = 500_000) -> None:
        async with TcpUser(node.public_port()) as user:
            data = HEAD + pattern(size)
            sending = asyncio.create_task(user.send(data))
            self.assertEqual(await user.receive(len(data)), data)
            await sending

    async def _refused(self, handler: Callable[[ConnectRequest], Awaitable[Any]]) -> str:
        """What is logged when the handler does this; the user is let go, the next ones are served."""
        turns = 0

        async def first_only(request: ConnectRequest) -> Any:
            nonlocal turns
            turns += 1
            if turns == 1:
                return await handler(request)
            raise NoRoute

        leaks = Leaks()
        async with EchoTarget() as target:
            with recorded_logs() as logs:
                async with running(target.address, connect_handler=first_only) as (node, relay):
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        self.assertEqual(await user.receive_all(), b"")
                    self.assertEqual(node.counters.disconnect_reasons, {"dial_failed": 1})
                    await self._echoes(node)
                    await async_wait_until(lambda: not relay.stats().held, "no streams")
                    self.assertFalse(session_of(relay)._tasks)
        await leaks.check()
        return logs.text()

    @on_both_loops
    async def test_a_target_by_name_and_as_a_value(self) -> None:
        async with EchoTarget() as target:
            for answer in (target.address, parse_target(target.address), Target("tcp", target.host, target.port)):

                async def handler(request: ConnectRequest, answer: Any = answer) -> Any:
                    return answer

                async with running(connect_handler=handler) as (node, _):
                    await self._echoes(node)

    @on_both_loops
    async def test_a_handler_that_returns_none_leaves_it_to_the_routes(self) -> None:
        async def handler(request: ConnectRequest) -> None:
            return None

        async with EchoTarget() as target, running(target.address, connect_handler=handler) as (node, _):
            await self._echoes(node)

    @on_both_loops
    async def test_what_the_handler_is_told(self) -> None:
        requests: list[ConnectRequest] = []

        async def handler(request: ConnectRequest) -> Any:
            requests.append(request)
            raise NoRoute

        async with EchoTarget() as target, running(target.address, connect_handler=handler, tenant="acme") as (node, _):
            async with TcpUser(node.public_port()) as user:
                await user.send(request_head(HOST.upper() + ":80", "/"))
                await user.receive(1)
                (request,) = requests
                self.assertEqual(
                    (request.backend, request.tenant, request.hostname, request.port, request.is_tls),
                    ("app", "acme", HOST, 80, False),
                )
                self.assertEqual((request.transport, request.client_address), ("tcp", user.address))

    @on_both_loops
    async def test_several_targets_as_text_and_as_a_dial(self) -> None:
        async with EchoTarget() as target, refusing_target() as refusing:
            text = f"{refusing}, {target.address}"
            for answer in (text, Dial(parse_targets(text), 2.0)):

                async def handler(request: ConnectRequest, answer: Any = answer) -> Any:
                    return answer

                async with running(connect_handler=handler) as (node, relay):
                    await self._echoes(node)
                    async with TcpUser(node.public_port()) as user:
                        await user.send(HEAD)
                        await user.receive(len(HEAD))
                        self.assertEqual([stream.target for stream in session_of(relay).live], [target.address])

    @on_both_loops
    async def test_a_failed_dial_names_every_target_and_its_problem(self) -> None:
        async with refusing_target() as refusing:

            async def handler(request: ConnectRequest) -> Any:
                return f"{refusing}, unix:/nowhere"

            log = await self._refused(handler)
        self.assertIn(f"dial failed: {refusing}: Connection refused; unix:/nowhere: No such file or directory", log)

    @on_both_loops
    async def test_a_dial_has_its_own_timeout_and_the_handlers_time_counts(self) -> None:
        async with silent_target() as silent:

            async def hasty(request: ConnectRequest) -> Any:
                return Dial((parse_target(silent),), 0.1)

            self.assertIn("dial failed: no answer in time", await self._refused(hasty))

        timeouts: list[float] = []
        real = Dialer.connect

        async def connect(dialer: Dialer, targets: Any, protocol: Any, timeout: float, policies: Any) -> Any:
            timeouts.append(timeout)
            return await real(dialer, targets, protocol, timeout, policies)

        async with EchoTarget() as target:

            async def slow(request: ConnectRequest) -> Any:
                await asyncio.sleep(0.1)
                return Dial((parse_target(target.address),), 5)

            with mock.patch.object(Dialer, "connect", connect):
                async with running(connect_handler=slow) as (node, _):
                    await self._echoes(node)
        self.assertLess(*timeouts, 4.95)

    @on_both_loops
    async def test_a_dial_of_nothing(self) -> None:
        async def handler(request: ConnectRequest) -> Any:
            return Dial(())

        self.assertIn("connect handler returned no target", await self._refused(handler))

    @on_both_loops
    async def test_a_handler_that_refuses(self) -> None:
        async def handler(request: ConnectRequest) -> Any:
            raise Refused(f"{request.hostname} is closed today", Reason.TIMEOUT)

        with recorded_logs() as logs:
            async with running(connect_handler=handler) as (node, relay):
                async with TcpUser(node.public_port()) as user:
                    await user.send(HEAD)
                    self.assertEqual(await user.receive_all(), b"")
                totals = session_of(relay).totals
                self.assertEqual((totals.refused, totals.dials_failed, totals.no_route), (1, 0, 0))
                self.assertEqual(node.counters.disconnect_reasons, {"timeout": 1})
        self.assertIn(f"stream refused: {HOST} is closed today", logs.text())

    @on_both_loops
    async def test_a_memory_stream(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        tasks: list[asyncio.Task[None]] = []

        async def handler(request: ConnectRequest) -> Any:
            reader, writer, upstream = memory_stream()
            tasks.append(asyncio.create_task(serve(reader, writer)))
            return upstream

        for dialect in DIALECTS:
            async with running(connect_handler=handler, dialect=dialect) as (node, relay):
                await asyncio.gather(*(self._echoes(node, 2_000_000) for _ in range(4)))
                await async_wait_until(lambda r=relay: not r.stats().held, "no streams")
        await asyncio.wait_for(asyncio.gather(*tasks), 5)

    @on_both_loops
    async def test_a_connected_pair(self) -> None:
        leaks = Leaks()
        async with EchoTarget() as target:

            async def handler(request: ConnectRequest) -> Any:
                return await asyncio.open_connection(target.host, target.port)

            for dialect in DIALECTS:
                async with running(connect_handler=handler, dialect=dialect) as (node, relay):
                    await asyncio.gather(*(self._echoes(node, 2_000_000) for _ in range(4)))
                    await async_wait_until(lambda r=relay: not r.stats().held, "no streams")
                    await async_wait_until(lambda r=relay: not session_of(r)._tasks, "no tasks")
        await leaks.check()

    @on_both_loops
    async def test_no_route_leaves_it_to_the_routes(self) -> None:
        async def handler(request: ConnectRequest) -> Any:
            raise NoRoute

        async with EchoTarget() as target, running(target.address, connect_handler=handler) as (node, _):
            await self._echoes(node)

    @on_both_loops
    async def test_a_handler_that_fails_in_any_way(self) -> None:
        async def fails(request: ConnectRequest) -> Any:
            raise RuntimeError("a bug in the handler")

        async def is_refused(request: ConnectRequest) -> Any:
            raise ConnectionRefusedError(111, "Connection refused")

        async def is_cancelled(request: ConnectRequest) -> Any:
            other = asyncio.get_running_loop().create_future()
            other.cancel()
            return await other

        async def returns_a_number(request: ConnectRequest) -> Any:
            return 80

        async def returns_nonsense(request: ConnectRequest) -> Any:
            return "no target at all"

        async def fails_in_groups(request: ConnectRequest) -> Any:
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

        for handler, words in (
            (fails, "connect handler failed"),
            (is_refused, "Connection refused"),
            (is_cancelled, "connect handler was cancelled"),
            (returns_a_number, "connect handler returned int"),
            (returns_nonsense, "no target at all"),
            (fails_in_groups, "connect handler failed"),
        ):
            self.assertIn(words, await self._refused(handler))

    @on_both_loops
    async def test_a_handler_that_never_returns(self) -> None:
        cancelled = []

        async def never(request: ConnectRequest) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(request.stream_id)

        with mock.patch("relay.targets.tenant_targets.Dialer", lambda **options: Dialer(0.2)):
            self.assertIn("no answer in time", await self._refused(never))
        self.assertEqual(len(cancelled), 1)

    @on_both_loops
    async def test_a_stop_cancels_handlers(self) -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def never(request: ConnectRequest) -> Any:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        leaks = Leaks()
        async with running(connect_handler=never) as (node, relay):
            async with TcpUser(node.public_port()) as user:
                await user.send(HEAD)
                await entered.wait()
                await relay.stop(0)
                await asyncio.wait_for(cancelled.wait(), 5)
        await leaks.check()

    @on_both_loops
    async def test_a_stream_for_a_udp_flow_is_refused_and_closed(self) -> None:
        options = {"udp_ports": {5353: 0}}
        async with DevNode(**options) as probe:
            claims = udp_claims(probe)
        ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def handler(request: ConnectRequest) -> Any:
            reader, writer, upstream = memory_stream()
            ends.append((reader, writer))
            return upstream

        with recorded_logs() as logs:
            async with running(connect_handler=handler, claims=claims, options=options) as (node, _):
                async with UdpUser(node.public_port("udp")) as user:
                    user.send(b"x")
                    await async_wait_until(lambda: node.counters.disconnect_reasons.get("dial_failed"), "dial_failed")
                    with contextlib.suppress(ConnectionError):
                        self.assertEqual(await asyncio.wait_for(ends[0][0].read(), 5), b"")
                    ends[0][1].close()
                    with contextlib.suppress(ConnectionError):  # asyncio complains of what nobody has looked at
                        await ends[0][1].wait_closed()
        self.assertIn("needs a target, not a stream", logs.text())


class LifeTests(SimpleTestCase):
    @on_both_loops
    async def test_start_apply_stop_and_again(self) -> None:
        async with HttpTarget() as target, running(target.address) as (node, first):
            backend = first.config.backends["app"]
            await first.stop()
            await first.stop()
            relay = Relay(timings=quick())
            relay.apply(RelayConfig(MappingProxyType({"app": backend}), 7))
            self.assertEqual((relay.statuses(), relay.config.generation), ([], 7))
            relay.retry_now()
            for _ in range(2):
                await relay.start()
                with self.assertRaisesRegex(RuntimeError, "runs already"):
                    await relay.start()
                await relay.wait_up(10)
                self.assertTrue((await http_get(node.public_port(), HOST)).ok)
                await relay.stop(1)

    @on_both_loops
    async def test_waiting_for_a_session_that_does_not_come(self) -> None:
        async with DevNode() as node:
            backend = backend_for(node)
            await node.stop()
            with recorded_logs():
                async with Relay([backend]) as relay:
                    with self.assertRaises(TimeoutError):
                        await relay.wait_up(0.05)

    def test_it_runs_without_django(self) -> None:
        program = """
import asyncio, sys
class NoDjango:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("django", "nexusadmin", "tenants"):
            raise ImportError("not here: " + name)
sys.meta_path.insert(0, NoDjango())
from relay import *
from relay.devnode import DevNode
async def main():
    async def handler(request):
        reader, writer, upstream = memory_stream()
        writer.write(b"hello " + request.hostname.encode())
        writer.close()
        return upstream
    async with DevNode(secret="s" * 32, http_ports={80: 0}) as node:
        backend = BackendConfig("b", "b", (NodeConfig(node.address, ca_pem=node.ca_pem),), HmacSecret("s" * 32),
                                claims=Claims(hostnames=("a.example.com",)))
        async with Relay([backend], connect_handler=handler, timings=Timings(confirmed_after=0.02, tick=0.02)) as relay:
            await relay.wait_up()
            reader, writer = await asyncio.open_connection("127.0.0.1", node.public_port())
            writer.write(b"GET / HTTP/1.1\\r\\nHost: a.example.com\\r\\n\\r\\n")
            print((await reader.read()).decode())
            writer.close()
asyncio.run(main())
"""
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-X", "dev", "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((done.stdout, done.returncode), ("hello a.example.com\n", 0), done.stderr)
        self.assertNotIn("Warning", done.stderr)
        self.assertNotIn("never retrieved", done.stderr)
