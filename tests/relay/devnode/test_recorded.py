"""What the node says has the fields that recorded nodes send, absent ones included."""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

from tests.relay.devnode.client import HOST, RawClient
from tests.relay.devnode.test_streams import StreamTestCase
from tests.support.targets import EchoTarget
from tests.support.users import UdpUser

WIRE = Path(__file__).parents[2] / "data" / "wire"


def recorded(dialect: str) -> set[tuple[str, ...]]:
    """The shapes of all control messages and challenges that the node sent in a recording."""
    shapes = set()
    for line in (WIRE / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines():
        frame = json.loads(line)
        if frame["dir"] == "node->client":
            if "control" in frame:
                shapes.add(shape(frame["control"]))
            elif frame["opcode"] == "text":
                shapes.add(shape(json.loads(frame["text"])))
    return shapes


def shape(message: dict[str, Any]) -> tuple[str, ...]:
    """What it is, and the fields that it has, in order."""
    return (str(message.get("event") or message["type"]), *message)


class Listener:
    """Notes the shape of everything that a client receives."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.shapes: set[tuple[str, ...]] = set()

    async def control(self) -> dict[str, Any]:
        """The next control message or challenge; data is passed over."""
        while True:
            message = await self.client.receive()
            if isinstance(message, str) or message[:1] == b"\x02":
                fields: dict[str, Any] = json.loads(message if isinstance(message, str) else message[1:])
                self.shapes.add(shape(fields))
                return fields


class RecordedTests(StreamTestCase):
    async def test_attested(self) -> None:
        node = await self.node(udp_ports=[0])
        udp_port = node.public_port("udp")
        async with EchoTarget() as target:
            client = await self.client(
                node,
                HOST,
                udp_routes=[{"port": udp_port}],
                outbound_allowed=True,
                allowed_outbound_ports=[target.port],
            )
            listener = Listener(client)
            listener.shapes.add(("handshake_challenge", "type", "nonce"))  # `authenticate` has seen it
            user = await self.user(node)
            stream_id = (await listener.control())["client_id"]
            for _ in range(8):
                await client.send_data(stream_id, b"x")
            await listener.control()
            await client.send_control("ping_client", stream_id)
            await listener.control()
            user.close()
            await listener.control()
            for address in (target.address, "127.0.0.1:1"):
                await client.send_control("outbound_connect", str(uuid.uuid4()), target_addr=address)
                await listener.control()
            async with UdpUser(udp_port) as udp:
                udp.send(b"x")
                await listener.control()
            node.challenge_all()
            await listener.control()
        self.assertEqual(listener.shapes, recorded("attested"))

    async def test_token(self) -> None:
        node = await self.node(dialect="token")
        client = await self.client(node)
        listener = Listener(client)
        user = await self.user(node)
        stream_id = (await listener.control())["client_id"]
        await client.send_control("ping_client", stream_id)
        with contextlib.suppress(ConnectionError):
            user.close()
        while (await listener.control())["event"] != "disconnect":
            pass
        # The recording has no health check: its pong is the same in both dialects.
        self.assertEqual(listener.shapes - {("pong_client", "event", "client_id")}, recorded("token"))
