import asyncio
import ssl
import tempfile
import unittest
from pathlib import Path

from relay.devnode.demo_target import MAX_HEAD, DemoTarget


class DemoTargetTests(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.target = DemoTarget(
            "blue", directory=Path(directory.name), hostnames=["app.example.test", "*.pr.example.test"]
        )
        await self.enterAsyncContext(self.target)

    async def ask(self, request, server_name=None):
        context = None
        port = self.target.http_port
        if server_name:
            context = ssl.create_default_context(cafile=self.target.ca_file)
            port = self.target.tls_port
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name)
            writer.write(request)
            answer = await reader.read()
            writer.close()
        return answer.decode("latin-1")

    async def test_says_what_it_saw(self):
        answer = await self.ask(b"GET /x?y=1 HTTP/1.1\r\nHost: app.example.test:8080\r\n\r\n")
        head, _, body = answer.partition("\r\n\r\n")
        self.assertTrue(head.startswith("HTTP/1.1 200 OK\r\n"))
        self.assertEqual(
            body,
            f"target: blue\nrequest: GET /x?y=1\nhost: app.example.test:8080\nport: {self.target.http_port}\ntls: no\n",
        )

    async def test_ends_tls_itself_for_its_names(self):
        for name in ("app.example.test", "seven.pr.example.test", "localhost"):
            with self.subTest(name):
                answer = await self.ask(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode(), server_name=name)
                self.assertIn(f"tls: yes, server name {name}\n", answer)
                self.assertIn(f"port: {self.target.tls_port}\n", answer)

    async def test_takes_a_body(self):
        answer = await self.ask(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
        self.assertIn("request: POST /\n", answer)

    async def test_refuses_what_it_can_not_read(self):
        for request, status in [
            (b"hello\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
            (b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 10) + b"\r\n\r\n", 431),
        ]:
            with self.subTest(status):
                self.assertTrue((await self.ask(request)).startswith(f"HTTP/1.1 {status} "))

    async def test_certificate_is_kept_while_it_covers_the_names(self):
        directory = self.target.ca_file.parent
        before = (directory / "node.pem").read_bytes()
        DemoTarget("green", directory=directory, hostnames=["app.example.test"])
        self.assertEqual((directory / "node.pem").read_bytes(), before)
        DemoTarget("green", directory=directory, hostnames=["other.example.test"])
        self.assertNotEqual((directory / "node.pem").read_bytes(), before)
