"""Tests of relay.transport.tunnel: nodes behind proxies, with small proxies."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from unittest import mock

from django.test import SimpleTestCase

from relay.config import NodeConfig
from relay.devnode import DevNode
from relay.devnode.certificate import ensure_certificate
from relay.network.names import Names
from relay.transport.opening import ConnectFailed, NodeDialer
from tests.relay.network.test_names import UNKNOWN, Answers
from tests.relay.transport.test_connection import QUICK, Listener, hub, serve_upgrade, to_the_end
from tests.support.proxies import TestProxy
from tests.support.raw_server import raw_server
from tests.support.relays import SECRET, Leaks, backend_for, on_both_loops, quick, recorded_logs
from tests.support.targets import refusing_target
from tests.support.waiting import cancelled_after

HOST = "node.example"
"""A name that only proxies know."""


class TunnelTests(SimpleTestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch.dict(os.environ))
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            os.environ.pop(name, None)
            os.environ.pop(name.lower(), None)
        self.logs = self.enterContext(recorded_logs())

    def names(self) -> Names:
        return Names(Answers(**{HOST: UNKNOWN, "proxy.example": UNKNOWN, "known.example": ["127.0.0.1"]}), QUICK)

    async def opens(self, address: str, proxy: str, ca_pem: str | None = None) -> None:
        leaks = Leaks()
        dialer = NodeDialer(self.names(), QUICK, proxy)
        connection = await dialer.open(NodeConfig(address, ca_pem=ca_pem), Listener())
        connection.disown()
        await connection.closed
        await leaks.check()

    async def fails(self, address: str, proxy: str) -> str:
        leaks = Leaks()
        with self.assertRaises(ConnectFailed) as caught:
            await NodeDialer(self.names(), QUICK, proxy).open(NodeConfig(address), Listener())
        await leaks.check()
        self.assertNotIn("hidden", str(caught.exception))
        return str(caught.exception)

    @on_both_loops
    async def test_each_kind_of_proxy_with_and_without_tls_to_the_node(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            certificate = ensure_certificate(Path(directory) / "node", [HOST, "known.example"])
            proxys = ensure_certificate(Path(directory) / "proxy")
            os.environ["SSL_CERT_FILE"] = str(proxys.ca_file)
            context = certificate.server_context()
            async with raw_server(serve_upgrade, context) as secure, hub(serve_upgrade) as plain:
                insecure = int(plain.address.split(":")[2].split("/")[0])
                for scheme in ("http", "https", "socks5", "socks5h"):
                    for credential in (None, ("user", "hidden: ü")):
                        with self.subTest(scheme, credential=credential):
                            host = "known.example" if scheme == "socks5" else HOST
                            proxy = TestProxy({HOST: "127.0.0.1", "known.example": "127.0.0.1"}, credential)
                            async with proxy.serving(proxys.server_context() if scheme == "https" else None):
                                user = "user:hidden%3A%20%C3%BC@" if credential else ""
                                way = f"{scheme}://{user}127.0.0.1:{proxy.port}"
                                await self.opens(f"wss://{host}:{secure}/connect", way, certificate.ca_pem)
                                await self.opens(f"ws://{host}:{insecure}/connect", way)
                            asked = "127.0.0.1" if scheme == "socks5" else host
                            self.assertEqual(proxy.asked, [(asked, secure), (asked, insecure)])
                            self.assertIn(f"through the proxy 127.0.0.1:{proxy.port}", self.logs.text())
        self.assertNotIn("hidden", self.logs.text())

    @on_both_loops
    async def test_the_query_of_a_nodes_address_is_not_logged(self) -> None:
        async with hub(serve_upgrade) as node, TestProxy().serving() as proxy:
            await self.opens(f"{node.address}?key=hidden", f"127.0.0.1:{proxy.port}")
            told = [record.__dict__ for record in self.logs.records if "through the proxy" in record.getMessage()]
            self.assertEqual(told[-1]["node"], node.address)
        self.assertNotIn("hidden", str([record.__dict__ for record in self.logs.records]))

    @on_both_loops
    async def test_a_session_lives_behind_a_proxy(self) -> None:
        from relay import Relay

        async with DevNode(secret=SECRET, http_ports={80: 0}) as node, TestProxy().serving() as proxy:
            async with Relay([backend_for(node)], timings=quick(), node_proxy=f"127.0.0.1:{proxy.port}") as relay:
                await relay.wait_up(10)
                self.assertEqual(proxy.asked, [("127.0.0.1", node.hub_port)])

    @on_both_loops
    async def test_the_environments_proxy_and_what_overrides_it(self) -> None:
        async with hub(serve_upgrade) as node, TestProxy({HOST: "127.0.0.1"}).serving() as proxy:
            port = int(node.address.split(":")[2].split("/")[0])
            address = f"ws://{HOST}:{port}/connect"
            os.environ["HTTP_PROXY"] = f"http://127.0.0.1:{proxy.port}"
            await self.opens(address, "")
            self.assertEqual(len(proxy.asked), 1)
            self.assertIn("does not resolve", await self.fails(address, "direct"))
            os.environ["NO_PROXY"] = HOST
            self.assertIn("does not resolve", await self.fails(address, ""))
            # A node's own comes before the relay's, and before NO_PROXY.
            own = NodeConfig(address, proxy=f"http://127.0.0.1:{proxy.port}")
            connection = await NodeDialer(self.names(), QUICK, "direct").open(own, Listener())
            connection.disown()
            self.assertEqual(len(proxy.asked), 2)
            os.environ |= {"NO_PROXY": "", "HTTP_PROXY": "ftp://user:hidden@x"}
            self.assertIn("the variable HTTP_PROXY 'ftp://…'", await self.fails(address, ""))

    @on_both_loops
    async def test_what_a_proxy_refuses_is_said_in_words(self) -> None:
        address, credential = f"wss://{HOST}:443/connect", ("user", "hidden")
        for scheme, refusal, wrong in (
            ("http", "it answered HTTP 403", "wants other credentials (HTTP 407): correct"),
            ("socks5h", "its rules do not allow it", "refused user and password"),
        ):
            async with TestProxy({HOST: None}, credential).serving() as proxy:
                place = f"127.0.0.1:{proxy.port}"
                right = await self.fails(address, f"{scheme}://user:hidden@{place}")
                self.assertIn(f"the proxy {scheme}://{place} does not connect to {HOST}:443: {refusal}", right)
                self.assertIn(wrong, await self.fails(address, f"{scheme}://user:hidden-no@{place}"))
                self.assertIn("write USER:PASSWORD@", await self.fails(address, f"{scheme}://{place}"))

    @on_both_loops
    async def test_a_proxy_that_is_not_there_or_is_none(self) -> None:
        address = f"wss://{HOST}:443/connect"
        async with refusing_target() as place:
            problem = f"cannot reach the proxy http://{place}: Connection refused"
            self.assertIn(problem, await self.fails(address, f"http://{place}"))
        self.assertIn("its name does not resolve", await self.fails(address, "http://proxy.example:3128"))
        for scheme, answer in (
            ("http", b"SSH-2.0-x\r\n\r\n"),
            ("http", b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000),
            ("http", b"\xff\xff \r\n\r\n"),
            ("socks5h", b"\x05\x01\x00"),
            ("socks5h", b"\x05\x00\x00\x03\xff"),
        ):
            with self.subTest(answer[:20]):
                proxy = TestProxy()
                proxy.answer = answer
                async with proxy.serving():
                    dialer = NodeDialer(self.names(), quick(node_connect=0.3), f"{scheme}://127.0.0.1:{proxy.port}")
                    with self.assertRaisesRegex(ConnectFailed, "proxy"):
                        await dialer.open(NodeConfig(f"ws://{HOST}:80/connect"), Listener())

    @on_both_loops
    async def test_a_node_behind_a_proxy_that_is_no_node(self) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await to_the_end(reader)

        async with hub(refuse) as node, TestProxy({HOST: "127.0.0.1"}).serving() as proxy:
            port = node.address.split(":")[2]
            way = f"http://user:hidden@127.0.0.1:{proxy.port}"
            self.assertIn(
                f"through the proxy 127.0.0.1:{proxy.port} answered HTTP 404",
                await self.fails(f"ws://{HOST}:{port}", way),
            )
            self.assertIn("TLS with the node", await self.fails(f"wss://{HOST}:{port}", way))

    @on_both_loops
    async def test_cancelled_it_leaves_nothing(self) -> None:
        async with DevNode() as node, TestProxy().serving() as proxy:
            for scheme in ("http", "socks5h"):
                dialer = NodeDialer(timings=QUICK, proxy=f"{scheme}://127.0.0.1:{proxy.port}")
                leaks = Leaks()
                for steps in range(40):
                    config = NodeConfig(node.address, ca_pem=node.ca_pem)
                    task = await cancelled_after(steps, dialer.open(config, Listener()))
                    if not task.cancelled():
                        task.result().abort(ConnectionAbortedError())
                await leaks.check()
