import uuid
from typing import Any

from relay.devnode import mint_token
from tests.relay.devnode.client import HOST, SECRET, RawClient, raw_client
from tests.relay.devnode.test_streams import StreamTestCase
from tests.support.targets import ClosingTarget, EchoTarget, SpeakingTarget, refusing_target


class OutboundTests(StreamTestCase):
    async def ask(self, client: RawClient, address: str) -> dict[str, Any]:
        stream_id = str(uuid.uuid4())
        await client.send_control("outbound_connect", stream_id, target_addr=address)
        result = await client.control()
        self.assertEqual((result.pop("event"), result["client_id"]), ("outbound_result", stream_id))
        return result

    async def test_allowed(self) -> None:
        node = await self.node()
        async with EchoTarget() as target:
            client = await self.client(node, HOST, outbound_allowed=True, allowed_outbound_ports=[target.port])
            result = await self.ask(client, target.address)
            stream_id = result.pop("client_id")
            self.assertEqual(result, {"success": True, "credits": 64})
            await client.send_data(stream_id, b"hello")
            self.assertEqual(await client.data(stream_id), b"hello")
            await client.send_control("disconnect", stream_id, reason="normal")
            await node.wait_until(lambda: not target.open)

    async def test_nothing_overtakes_the_result(self) -> None:
        node = await self.node()
        async with SpeakingTarget(b"220 hello") as target:
            client = await self.client(node, HOST, outbound_allowed=True)
            result = await self.ask(client, target.address)
            self.assertEqual(await client.data(result["client_id"]), b"220 hello")

    async def test_the_targets_end_ends_the_stream(self) -> None:
        node = await self.node()
        async with ClosingTarget() as target:
            client = await self.client(node, HOST, outbound_allowed=True)
            result = await self.ask(client, target.address)
            self.assertEqual(await client.control(), {"event": "disconnect", "client_id": result["client_id"]})

    async def test_refused(self) -> None:
        node = await self.node()
        async with refusing_target() as dead:
            client = await self.client(node, HOST, outbound_allowed=True)
            for address, reason in ((dead, "dial failed"), ("nonsense", "invalid target"), ("a:0", "invalid target")):
                result = await self.ask(client, address)
                self.assertNotIn("success", result)
                self.assertEqual(result["reason"].partition(" address")[0], reason)

    async def test_the_claims_decide(self) -> None:
        node = await self.node()
        port_bound = await self.client(node, HOST, outbound_allowed=True, allowed_outbound_ports=[9000])
        result = await self.ask(port_bound, "127.0.0.1:22")
        self.assertEqual(result["reason"], "outbound port 22 not allowed for this backend")
        none = await self.client(node, HOST)
        self.assertEqual((await self.ask(none, "127.0.0.1:22"))["reason"], "outbound not allowed for this backend")

    async def test_the_node_decides(self) -> None:
        for options, words in (
            ({"outbound_permitted": False}, "outbound access not allowed"),
            ({"outbound_ports": [9000]}, "outbound port 25 not allowed"),
        ):
            with self.subTest(words):
                node = await self.node(**options)
                async with raw_client(node) as client:
                    claims = {"outbound_allowed": True, "allowed_outbound_ports": [25]}
                    await client.websocket.send(mint_token(SECRET, [HOST], **claims))
                    self.assertEqual(await client.closed(), (1008, f"stage0 token validation failed: {words}"))
        await self.client(node, HOST, outbound_allowed=True, allowed_outbound_ports=[9000])
