import asyncio
import socket
import tempfile
from unittest import IsolatedAsyncioTestCase, TestCase

from relay.devnode import DevNode, NodeOptions
from relay.devnode.serve import describe, parse_ports
from relay.errors import InvalidValue
from tests.relay.devnode.client import SECRET, session


class LifeTests(IsolatedAsyncioTestCase):
    async def test_ports_as_advertised_and_as_bound(self) -> None:
        async with DevNode(http_ports={80: 0}, tls_ports=[0], tcp_ports=[0], udp_ports={53: 0}) as node:
            shown = {(port.kind, port.advertised) for port in node.public_ports}
            tls, tcp = node.public_port("tls"), node.public_port("tcp")
            self.assertEqual(shown, {("http", 80), ("tls", tls), ("tcp", tcp), ("udp", 53)})
            self.assertNotEqual(node.public_port("http", 80), 80)
            with self.assertRaises(KeyError):
                node.public_port("http", 81)
            self.assertIn("(as 80)", describe(node))

    async def test_a_taken_port_is_named_with_its_option(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for option, name in (({"hub_port": port}, "--hub-port"), ({"tls_ports": [port]}, "--tls")):
                with self.assertRaises(InvalidValue) as caught:
                    async with DevNode(**option):
                        pass
                self.assertIn(str(port), str(caught.exception))
                self.assertIn(name, str(caught.exception))

    async def test_a_taken_udp_port(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            with self.assertRaisesRegex(InvalidValue, "--udp"):
                async with DevNode(udp_ports=[taken.getsockname()[1]]):
                    pass

    async def test_it_comes_back_at_the_same_ports(self) -> None:
        async with DevNode(secret=SECRET, http_ports=[0], udp_ports=[0]) as node:
            before = node.address, node.public_port("http"), node.public_port("udp"), node.ca_pem
            for end, code in ((node.stop, 1001), (node.kill, 1006)):
                async with session(node) as client:
                    await end()
                    self.assertEqual((await client.closed())[0], code)
                    self.assertEqual((node.sessions, node.dead_sessions), ((), ()))
                    with self.assertRaises(OSError):
                        await asyncio.open_connection("127.0.0.1", node.hub_port)
                await node.start()
            self.assertEqual((node.address, node.public_port("http"), node.public_port("udp"), node.ca_pem), before)

    async def test_the_ca_is_kept_where_asked(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with DevNode(certificate_directory=directory) as first:
                pem = first.ca_pem
            async with DevNode(certificate_directory=directory) as second:
                self.assertEqual((second.ca_pem, str(second.ca_file)), (pem, f"{directory}/ca.pem"))

    async def test_plain_websockets(self) -> None:
        async with DevNode(secret=SECRET, tls=False) as node:
            self.assertTrue(node.address.startswith("ws://127.0.0.1:"))
            async with session(node):
                pass

    async def test_waiting_in_vain(self) -> None:
        async with DevNode() as node:
            with self.assertRaises(TimeoutError):
                await node.wait_for_sessions(1, timeout=0.05)


class OptionTests(TestCase):
    def test_secrets_do_not_show(self) -> None:
        self.assertNotIn(SECRET, repr(NodeOptions(secret=SECRET)))

    def test_unknown_dialect(self) -> None:
        with self.assertRaises(ValueError):
            NodeOptions(dialect="other")

    def test_parse_ports(self) -> None:
        self.assertEqual(parse_ports(["8080", "443:8443"], "--http"), {8080: 8080, 443: 8443})
        for texts in (["x"], ["0"], ["1:"], [":1"], ["65536"], ["1:2:3"], ["80", "80:81"], ["²"]):
            with self.assertRaises(InvalidValue, msg=texts):
                parse_ports(texts, "--http")
