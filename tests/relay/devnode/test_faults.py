import asyncio
import contextlib
import json

from relay.devnode import GARBAGE, mint_token
from relay.protocol.messages import Malformed, parse_control
from tests.relay.devnode.client import HOST, SECRET, raw_client, session
from tests.relay.devnode.test_streams import StreamTestCase


class FaultTests(StreamTestCase):
    async def test_refusing_with_words(self) -> None:
        node = await self.node()
        node.faults.refuse_reason = "rate limit exceeded"
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            self.assertEqual(await client.closed(), (1008, "rate limit exceeded"))
        node.faults.refuse_reason = "x" * 124
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            self.assertEqual(await client.closed(), (1006, ""))

    async def test_refusing_without_words(self) -> None:
        node = await self.node()
        node.faults.refuse_abruptly = True
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            self.assertEqual(await client.closed(), (1006, ""))

    async def test_late_and_missing_challenges(self) -> None:
        node = await self.node()
        node.faults.challenge_delay = 0.05
        async with session(node):
            pass
        await node.wait_for_sessions(0)
        node.faults.challenge_delay = 0
        node.faults.never_challenge = True
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            await node.wait_until(lambda: len(node.hub_connections) == 1)
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.websocket.recv()

    async def test_empty_nonce(self) -> None:
        node = await self.node()
        node.faults.empty_nonce = True
        async with raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            self.assertEqual((await client.challenge())["nonce"], "")

    async def test_slow_accept(self) -> None:
        node = await self.node()
        node.faults.accept_delay = 60
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1), raw_client(node):
                pass

    async def test_dropping_every_socket(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, _ = await self.stream(node, client)
        node.drop_sessions()
        self.assertEqual(await client.closed(), (1006, ""))
        self.assertEqual(await user.receive_all(), b"")
        self.assertEqual(node.dead_sessions, ())

    async def test_dropping_without_noticing(self) -> None:
        node = await self.node()
        client = await self.client(node)
        node.drop_sessions(noticed=False)
        self.assertEqual(await client.closed(), (1006, ""))
        await node.wait_until(lambda: len(node.dead_sessions) == 1)

    async def test_frozen(self) -> None:
        node = await self.node()
        client = await self.client(node)
        node.freeze()
        pong = asyncio.ensure_future(await client.websocket.ping())
        await self.user(node)
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.websocket.recv()
        self.assertFalse(pong.done())
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1), raw_client(node):
                pass
        node.thaw()
        async with asyncio.timeout(5):
            await pong
        self.assertEqual((await client.control())["event"], "connect")

    async def test_refusing_tcp(self) -> None:
        node = await self.node()
        await node.close_hub()
        with self.assertRaises(ConnectionRefusedError):
            async with raw_client(node):
                pass
        await node.open_hub()
        async with session(node):
            pass

    async def test_lost_connect_and_disconnect(self) -> None:
        node = await self.node()
        client = await self.client(node)
        node.faults.drop_connects = 1
        user = await self.user(node)
        message = await client.receive()
        self.assertEqual(message[:1], b"\x01")
        node.faults.drop_disconnects = 1
        user.send_eof()
        self.assertEqual(await user.receive_all(), b"")
        _, stream_id = await self.stream(node, client)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")

    async def test_pings_ignored(self) -> None:
        node = await self.node()
        client = await self.client(node)
        _, stream_id = await self.stream(node, client)
        node.faults.ignore_pings = True
        await client.send_control("ping_client", stream_id)
        await node.wait_until(lambda: node.counters.pings == 1)
        self.assertEqual(node.counters.pongs, 0)

    async def test_garbage_leaves_the_node_as_it_was(self) -> None:
        node = await self.node()
        for name in GARBAGE:
            with self.subTest(name):
                async with session(node):
                    node.send_garbage(name)
                await node.wait_for_sessions(0)

    def test_garbage_is_garbage(self) -> None:
        for name in ("bad_json", "nested_json", "wrong_types", "huge_numbers"):
            for frame in GARBAGE[name]():
                parsed = parse_control(bytes(frame.data)[1:])
                if not isinstance(parsed, Malformed):
                    self.assertEqual(getattr(parsed, "credits", None), None, name)


class ClientGarbageTests(StreamTestCase):
    async def test_it_is_counted_and_ignored(self) -> None:
        node = await self.node()
        client = await self.client(node)
        messages = [b"\x01short", b"\x02", b"\x02{", b"\x02[]", b"\x02" + b"[" * 20_000, b"\x07hello", b"\x02\xff"]
        messages.append(b"\x02" + json.dumps({"event": "disconnect", "client_id": "x"}).encode())
        for message in messages:
            await client.websocket.send(message)
        await client.websocket.send(b"")
        await client.websocket.send("late text")
        await client.websocket.send([b"\x02", b"{", b"}"])
        counters = node.sessions[0].counters
        await node.wait_until(lambda: counters.malformed == len(messages) + 1)
        self.assertEqual((counters.unexpected_text, len(node.sessions)), (1, 1))

    async def test_no_websocket_at_all(self) -> None:
        node = await self.node()
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)), b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", node.hub_port)
            writer.write(nonsense)
            writer.write_eof()
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
