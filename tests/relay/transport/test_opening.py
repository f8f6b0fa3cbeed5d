"""Tests of relay.transport.opening: what keeps a connection from being opened, in words."""

from __future__ import annotations

import asyncio
import math
import socket
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine
from django.test import SimpleTestCase

from relay import Relay, RelayConfig, Timings
from relay.config import NodeConfig
from relay.devnode import DevNode
from relay.devnode.certificate import _make_leaf, ensure_certificate
from relay.network.names import Names, _Answer
from relay.protocol.events import EndKind
from relay.transport.opening import ConnectFailed, NodeDialer
from tests.relay.network.test_names import AGAIN, UNKNOWN, Answers
from tests.relay.targets.test_dialing import WAIT, listening, silent
from tests.relay.targets.test_tenant_targets import mute_resolver
from tests.relay.transport.test_connection import QUICK, Listener, hub, serve_upgrade, to_the_end
from tests.support.raw_server import raw_server
from tests.support.relays import SECRET, Leaks, backend_for, on_both_loops, quick, recorded_logs
from tests.support.targets import refusing_target
from tests.support.waiting import async_wait_until, cancelled_after


class OpeningTests(SimpleTestCase):
    async def _fails(
        self,
        node: NodeConfig,
        *words: str,
        kind: EndKind = EndKind.LOST,
        timings: Timings = QUICK,
        names: Names | None = None,
    ) -> None:
        leaks, listener = Leaks(), Listener()
        with self.assertRaises(ConnectFailed) as caught:
            await NodeDialer(names, timings).open(node, listener)
        for word in words:
            self.assertIn(word, caught.exception.ending.message)
        self.assertIs(caught.exception.ending.kind, kind)
        self.assertEqual(listener.ends, [])
        await leaks.check()

    @on_both_loops
    async def test_http_errors_say_what_the_node_answered(self) -> None:
        for status, kind, words in (
            ("404 Not Found", EndKind.LOST, "HTTP 404"),
            ("429 Too Many Requests", EndKind.RATE_LIMITED, "429"),
            ("200 OK", EndKind.LOST, "HTTP 200"),
            ("503 Service Unavailable", EndKind.LOST, "HTTP 503"),
        ):
            for close in (True, False):

                async def serve(
                    reader: asyncio.StreamReader,
                    writer: asyncio.StreamWriter,
                    status: str = status,
                    close: bool = close,
                ) -> None:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno".encode())
                    if not close:
                        await to_the_end(reader)

                async with hub(serve) as node:
                    await self._fails(node, words, kind=kind)

    @on_both_loops
    async def test_what_is_no_websocket(self) -> None:
        for data in (
            b"SSH-2.0-OpenSSH_9\r\n",
            b"\x15\x03\x01\x00\x02\x02\x50",
            b"HTTP/1.1 101 X\r\n\r\n",
            b"",
            b"\n" * 99,
        ):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(data)
                await writer.drain()
                writer.write_eof()
                await reader.read()

            async with hub(serve) as node:
                await self._fails(node)

    @on_both_loops
    async def test_an_endless_answer_is_bounded(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 404 No\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        async with hub(serve) as node:
            await self._fails(node)

    @on_both_loops
    async def test_nothing_listens(self) -> None:
        async with refusing_target() as address:
            await self._fails(NodeConfig(f"ws://{address}/connect"), "nothing listens", address)

    @on_both_loops
    async def test_a_name_that_does_not_resolve(self) -> None:
        await self._fails(NodeConfig("wss://no-such-host.invalid/connect"), "does not resolve", "no-such-host.invalid")

    @on_both_loops
    async def test_a_resolver_that_fails_or_hangs_is_told_from_a_name_that_does_not_exist(self) -> None:
        answers = Answers(**{"fails.example": AGAIN, "gone.example": UNKNOWN})
        timings = quick(node_connect=0.1)
        for name, words in (("gone", "does not resolve"), ("fails", "the resolver fails")):
            node = NodeConfig(f"ws://{name}.example/connect")
            await self._fails(node, words, f"{name}.example", timings=timings, names=Names(answers, timings))
        with self.assertRaisesRegex(ConnectFailed, "the resolver gave no answer for the node's name hangs.example"):
            await NodeDialer(Names(answers), timings).open(NodeConfig("ws://hangs.example/connect"), Listener())
        answers.release.set()

    @on_both_loops
    async def test_an_address_that_is_none(self) -> None:
        await self._fails(NodeConfig("http://127.0.0.1/"), "not a ws://")

    @on_both_loops
    async def test_a_certificate_that_is_not_trusted(self) -> None:
        async with DevNode() as node, DevNode() as other:
            for ca_pem in (None, other.ca_pem):
                await self._fails(NodeConfig(node.address, ca_pem=ca_pem), "not trusted", "CA certificate")

    @on_both_loops
    async def test_a_certificate_that_is_not_valid_says_what_to_do(self) -> None:
        """Each kind has a remedy of its own; none is told to keep a CA certificate that is there."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await to_the_end(reader)
            writer.close()

        for days, host, words in (
            (-730, "127.0.0.1", ("has expired", "renew it", "clock")),
            (730, "127.0.0.1", ("is not valid yet", "clocks of this machine and of the node")),
            (0, "127.0.0.2", ("is for another name", "127.0.0.2", "correct the node's address")),
            (0, "other.example", ("is for another name", "other.example", "correct the node's address")),
        ):
            with self.subTest(words[0]), tempfile.TemporaryDirectory() as directory:
                certificate = ensure_certificate(Path(directory))
                with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
                    _make_leaf(Path(directory), ())
                async with raw_server(serve, certificate.server_context()) as port:
                    names = Names(Answers(**{"other.example": ["127.0.0.1"]}), QUICK)
                    if host == "127.0.0.2":
                        names._resolved[host] = _Answer([(socket.AF_INET, "127.0.0.1")], math.inf, math.inf)
                    node = NodeConfig(f"wss://{host}:{port}/connect", ca_pem=certificate.ca_pem)
                    with self.assertRaises(ConnectFailed) as caught:
                        await NodeDialer(names, QUICK).open(node, Listener())
                for word in words:
                    self.assertIn(word, str(caught.exception))
                self.assertNotIn("CA certificate", str(caught.exception))

    @on_both_loops
    async def test_a_ca_that_is_none(self) -> None:
        for pem in ("", "no certificate", "zertifikät"):
            with self.subTest(pem):
                async with DevNode() as node:
                    await self._fails(NodeConfig(node.address, ca_pem=pem))

    @on_both_loops
    async def test_tls_where_none_is_spoken(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with hub(serve) as node:
            await self._fails(NodeConfig(node.address.replace("ws:", "wss:")), "TLS")

    @on_both_loops
    async def test_a_silent_node_is_given_up(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await to_the_end(reader)

        with tempfile.TemporaryDirectory() as directory:
            ca_pem = ensure_certificate(Path(directory)).ca_pem
        async with hub(serve) as node:
            secure = NodeConfig(node.address.replace("ws:", "wss:"), ca_pem=ca_pem)
            timings = quick(node_connect=0.1)
            await self._fails(node, "no answer", timings=timings)
            await self._fails(secure, "no answer", timings=timings)

    @on_both_loops
    async def test_the_nodes_query_is_sent(self) -> None:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))

        async with hub(serve) as node:
            with self.assertRaises(ConnectFailed):
                await NodeDialer(None, QUICK).open(NodeConfig(f"{node.address}?key=a&b=c"), Listener())
        self.assertTrue(heads[0].startswith(b"GET /connect?key=a&b=c HTTP/1.1\r\n"), heads)

    @on_both_loops
    async def test_the_next_address_of_a_name_is_tried_where_one_is_silent(self) -> None:
        async with hub(serve_upgrade) as node:
            port = int(node.address.split(":")[2].split("/")[0])
            names = Names(Answers(**{"both.example": ["127.0.0.2", "127.0.0.1"]}), QUICK)
            with silent("127.0.0.2", port):
                dialer = NodeDialer(names, quick(stagger=0.01, node_connect=WAIT))
                connection = await dialer.open(NodeConfig(f"ws://both.example:{port}/connect"), Listener())
                self.assertEqual((await names.resolve("both.example"))[0][1], "127.0.0.1")
                connection.disown()

    @on_both_loops
    async def test_tcp_asks_after_silence_whether_the_node_is_there(self) -> None:
        async with hub(serve_upgrade) as node:
            connection = await NodeDialer(timings=quick(keepalive=20)).open(node, Listener())
            assert connection._transport is not None
            sock = connection._transport.get_extra_info("socket")
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 20)
            connection.disown()

    @on_both_loops
    async def test_an_address_that_serves_no_session_comes_last(self) -> None:
        async with hub(serve_upgrade) as node:
            port = int(node.address.split(":")[2].split("/")[0])
            names = Names(Answers(**{"both.example": ["127.0.0.2", "127.0.0.1"]}), QUICK)
            both = NodeConfig(f"ws://both.example:{port}/connect")
            with listening("127.0.0.2", port):
                await self._fails(both, "no answer", timings=quick(node_connect=0.1), names=names)
                connection = await NodeDialer(names, QUICK).open(both, Listener())
                connection.disown()

    @on_both_loops
    async def test_nodes_whose_names_nobody_answers_for_keep_no_other_node_waiting(self) -> None:
        """On the loop of a real relay, with the resolver of the system."""
        with mute_resolver() as asked, recorded_logs():
            async with DevNode(secret=SECRET, http_ports={80: 0}) as node:
                living = NodeConfig(node.address.replace("127.0.0.1", "localhost"), ca_pem=node.ca_pem)
                dead = [
                    replace(
                        backend_for(node),
                        key=f"dead-{number}",
                        nodes=(NodeConfig(f"wss://n{number % 40}.mute.example/connect"),),
                    )
                    for number in range(80)
                ]
                async with Relay(dead, timings=quick(lookup_slow=0.05)) as relay:
                    await async_wait_until(lambda: len(asked) == 40, "each dead name, once")
                    backends = dict(relay.config.backends) | {"app": replace(backend_for(node), nodes=(living,))}
                    relay.apply(RelayConfig(backends))
                    await async_wait_until(
                        lambda: (
                            {status.state for backend, status in relay.statuses() if backend.key == "app"} == {"up"}
                        ),
                        "the living node's session",
                    )

    @on_both_loops
    async def test_cancelled_it_leaves_nothing(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await to_the_end(reader)

        async with hub(serve) as plain, DevNode() as node:
            for config in (plain, NodeConfig(node.address, ca_pem=node.ca_pem)):
                dialer = NodeDialer(timings=QUICK)
                leaks = Leaks()
                for steps in range(15):
                    task = await cancelled_after(steps, dialer.open(config, Listener()))
                    if not task.cancelled():
                        task.result().abort(ConnectionAbortedError())
                await leaks.check()
