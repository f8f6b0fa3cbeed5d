from relay.devnode import DevNode, NodeOptions
from relay.devnode.udp import UdpFlow
from tests.relay.devnode.client import RawClient, session
from tests.relay.devnode.test_streams import StreamTestCase
from tests.support.users import UdpUser


class UdpTests(StreamTestCase):
    async def flow(self, idle_timeout: float = 60, **route: int) -> tuple[DevNode, RawClient, UdpUser, str]:
        """A flow whose `connect` and first datagram (``one``) the client has seen."""
        node = await self.node(udp_ports={53: 0}, udp_idle_timeout=idle_timeout)
        client = await self.enterAsyncContext(session(node, udp_routes=[{"port": 53, **route}]))
        user = await self.enterAsyncContext(UdpUser(node.public_port("udp")))
        user.send(b"one")
        fields = await client.control()
        self.assertEqual(
            (fields["event"], fields["transport"], fields["hostname"], fields["conn_port"], fields["credits"]),
            ("connect", "udp", "udp:53", 53, 64),
        )
        self.assertEqual(await client.data(fields["client_id"]), b"one")
        return node, client, user, fields["client_id"]

    async def test_one_datagram_a_message_both_ways(self) -> None:
        _, client, user, stream_id = await self.flow()
        await client.send_data(stream_id, b"x" * 9000)
        await client.send_data(stream_id, b"")
        self.assertEqual([await user.receive(), await user.receive()], [b"x" * 9000, b""])
        user.send(b"y" * 9000)
        user.send(b"")
        self.assertEqual([await client.data(stream_id), await client.data(stream_id)], [b"y" * 9000, b""])

    async def test_a_flow_for_each_user(self) -> None:
        node, client, _, stream_id = await self.flow()
        async with UdpUser(node.public_port("udp")) as other:
            other.send(b"two")
            fields = await client.control()
            self.assertNotEqual(fields["client_id"], stream_id)
            self.assertEqual(await client.data(fields["client_id"]), b"two")

    async def test_an_idle_flow_is_forgotten(self) -> None:
        _, client, user, stream_id = await self.flow(idle_timeout=0.1)
        self.assertEqual(await client.control(), {"event": "disconnect", "client_id": stream_id})
        user.send(b"again")
        self.assertNotEqual((await client.control())["client_id"], stream_id)

    async def test_the_claims_say_when_a_flow_is_idle(self) -> None:
        for said, taken in ((7, 7), (1, 5), (10_000, 300)):
            node, _, _, _ = await self.flow(flow_idle_timeout_seconds=said)
            (flow,) = node.sessions[0].streams.values()
            assert isinstance(flow, UdpFlow)
            self.assertEqual(flow.idle_timeout, taken)
        self.assertEqual(NodeOptions().udp_idle_timeout, 30)

    async def test_without_credit_datagrams_are_dropped(self) -> None:
        node, client, user, stream_id = await self.flow()
        await client.send_control("resume_stream", stream_id, credits=1)
        await client.send_control("ping_client", stream_id)
        await client.control()
        user.send(b"taken")
        user.send(b"dropped")
        self.assertEqual(await client.data(stream_id), b"taken")
        await node.wait_until(lambda: node.counters.datagrams_dropped == 1)
        await client.send_control("resume_stream", stream_id, credits=1)
        await client.send_control("ping_client", stream_id)
        await client.control()
        user.send(b"next")
        self.assertEqual(await client.data(stream_id), b"next")

    async def test_grants(self) -> None:
        _, client, user, stream_id = await self.flow()
        for _ in range(8):
            await client.send_data(stream_id, b"x")
        self.assertEqual(await client.control(), {"event": "resume_stream", "client_id": stream_id, "credits": 8})
        for _ in range(8):
            await user.receive()

    async def test_nobody_claims_the_port(self) -> None:
        node = await self.node(udp_ports=[0])
        async with UdpUser(node.public_port("udp")) as user:
            user.send(b"x")
            await node.wait_until(lambda: node.counters.datagrams_dropped == 1)
