from unittest import TestCase

import uvloop

from relay.devnode import DevNode
from tests.relay.devnode.client import HOST, SECRET, session
from tests.support.users import TcpUser, UdpUser, request_head

CHUNK = 32 * 1024


class UvloopTests(TestCase):
    """uvloop's transports pause, resume and close in other ways than asyncio's."""

    def test_a_slow_user_gets_everything(self) -> None:
        async def scenario() -> None:
            async with DevNode(secret=SECRET, http_ports=[0]) as node, session(node) as client:
                async with TcpUser(node.public_port("http")) as user:
                    await user.send(request_head(HOST, "/"))
                    stream_id = (await client.control())["client_id"]
                    await client.data(stream_id)
                    user.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    for _ in range(64):
                        await client.send_data(stream_id, b"x" * CHUNK)
                    await client.send_control("disconnect", stream_id, reason="normal")
                    await node.wait_until(lambda: not node.sessions[0].streams)
                    user.writer.transport.resume_reading()  # type: ignore[attr-defined]
                    self.assertEqual(len(await user.receive_all()), 64 * CHUNK)
                self.assertEqual(node.counters.over_sends, 0)

        uvloop.run(scenario())

    def test_credits_stop_the_user(self) -> None:
        async def scenario() -> None:
            async with DevNode(secret=SECRET, http_ports=[0]) as node, session(node) as client:
                async with TcpUser(node.public_port("http")) as user:
                    await user.send(request_head(HOST, "/"))
                    stream_id = (await client.control())["client_id"]
                    await client.data(stream_id)
                    await client.send_control("resume_stream", stream_id, credits=3)
                    await client.send_control("ping_client", stream_id)
                    await client.control()
                    user.writer.write(b"x" * 20 * CHUNK)
                    received = 0
                    for _ in range(3):
                        received += len(await client.data(stream_id))
                    await client.send_control("ping_client", stream_id)
                    self.assertEqual((await client.control())["event"], "pong_client")
                    while received < 20 * CHUNK:
                        await client.send_control("resume_stream", stream_id, credits=1)
                        received += len(await client.data(stream_id))

        uvloop.run(scenario())

    def test_a_full_lane_kills_and_the_session_lives(self) -> None:
        async def scenario() -> None:
            async with DevNode(secret=SECRET, http_ports=[0], lane_size=16) as node, session(node) as client:
                async with TcpUser(node.public_port("http")) as user:
                    client.websocket.transport.pause_reading()
                    await user.send(request_head(HOST, "/"))
                    user.writer.write(b"x" * 32_000_000)
                    await node.wait_until(lambda: node.counters.data_dropped == 1)
                    await user.receive_all()
                    self.assertEqual(len(node.sessions[0].connection.lane), 16)
                    client.websocket.transport.resume_reading()
                    while len(node.sessions[0].connection.lane):
                        await client.receive()

        uvloop.run(scenario())

    def test_udp(self) -> None:
        async def scenario() -> None:
            async with DevNode(secret=SECRET, udp_ports={53: 0}) as node:
                async with session(node, udp_routes=[{"port": 53}]) as client, UdpUser(node.public_port("udp")) as user:
                    user.send(b"one")
                    stream_id = (await client.control())["client_id"]
                    self.assertEqual(await client.data(stream_id), b"one")
                    await client.send_data(stream_id, b"")
                    await client.send_data(stream_id, b"two")
                    self.assertEqual([await user.receive(), await user.receive()], [b"", b"two"])

        uvloop.run(scenario())
