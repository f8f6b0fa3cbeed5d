"""The helpers meet each other, without a node between them."""

import asyncio
import json
from pathlib import Path
from unittest import IsolatedAsyncioTestCase, TestCase

from tests.support.pattern import pattern, pattern_chunks, pattern_hash
from tests.support.targets import (
    ClosingTarget,
    DeafTarget,
    HttpTarget,
    SpeakingTarget,
    UdpEchoTarget,
    refusing_target,
    target_tls_context,
    unix_echo_target,
)
from tests.support.users import TcpUser, UdpUser, download, http_get, https_get, request_head, upload

SIZE = 400_000
RECORDING = Path(__file__).parents[1] / "data" / "wire" / "attested.jsonl"


class PatternTests(TestCase):
    def test_it_is_what_was_recorded(self) -> None:
        for line in RECORDING.read_text(encoding="utf-8").splitlines():
            frame = json.loads(line)
            if frame.get("data_len") == 16_401:
                self.assertEqual(bytes.fromhex(frame["hex"])[17:], pattern(63))
                return
        self.fail("no download in the recording")

    def test_chunks_add_up(self) -> None:
        self.assertEqual(b"".join(pattern_chunks(SIZE)), pattern(SIZE))
        self.assertEqual(pattern(16_384 + 1)[-1], 0x41)


class TargetTests(IsolatedAsyncioTestCase):
    async def test_http(self) -> None:
        async with HttpTarget("blue") as target:
            self.assertEqual((await http_get(target.port, "a.test")).body, b"x" * 100)
            self.assertEqual((await http_get(target.port, "a.test", "/name")).body, b"blue")
            self.assertEqual((await http_get(target.port, "a.test", "/other")).status, 404)
            moved = await download(target.port, "a.test", SIZE)
            self.assertEqual((moved.size, moved.sha256), (SIZE, pattern_hash(SIZE)))
            self.assertEqual(await upload(target.port, "a.test", SIZE), b"OK\n")
            self.assertEqual(target.sinks, [pattern_hash(SIZE)])
            async with TcpUser(target.port) as user:
                await user.send(request_head("a.test", "/echo") + b"hello")
                self.assertEqual(await user.receive(5), b"hello")

    async def test_https(self) -> None:
        async with HttpTarget(tls=target_tls_context()) as target:
            self.assertTrue((await https_get(target.port, "a.test")).ok)

    async def test_no_answer(self) -> None:
        async with ClosingTarget() as target:
            self.assertEqual((await http_get(target.port, "a.test")).status, 0)

    async def test_again_at_the_same_port(self) -> None:
        async with HttpTarget() as target:
            await target.stop()
            with self.assertRaises(ConnectionRefusedError):
                await http_get(target.port, "a.test")
            await target.start()
            self.assertTrue((await http_get(target.port, "a.test")).ok)

    async def test_refusing(self) -> None:
        async with refusing_target() as address:
            with self.assertRaises(ConnectionRefusedError):
                await asyncio.open_connection(*address.split(":"))

    async def test_deaf(self) -> None:
        async with DeafTarget() as target, TcpUser(target.port) as user:
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        await user.send(b"x" * 1_000_000)

    async def test_speaking_first(self) -> None:
        async with SpeakingTarget(b"hello") as target, TcpUser(target.port) as user:
            self.assertEqual(await user.receive(5), b"hello")

    async def test_unix(self) -> None:
        async with unix_echo_target() as target:
            self.assertTrue(target.address.startswith("unix:/"))
            reader, writer = await asyncio.open_unix_connection(target.unix)
            writer.write(b"hello")
            self.assertEqual(await reader.readexactly(5), b"hello")
            writer.close()

    async def test_udp(self) -> None:
        async with UdpEchoTarget() as target, UdpUser(target.port) as user:
            user.send(b"one")
            user.send(b"")
            self.assertEqual([await user.receive(), await user.receive()], [b"re:one", b"re:"])
            self.assertEqual(target.received, [b"one", b""])
