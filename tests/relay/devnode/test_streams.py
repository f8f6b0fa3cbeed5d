import asyncio
import json
import uuid
from typing import Any
from unittest import IsolatedAsyncioTestCase

from relay.devnode import DevNode
from tests.relay.devnode.client import HOST, SECRET, RawClient, session
from tests.support.users import TcpUser, http_get, request_head

HEAD = request_head(HOST, "/")


class StreamTestCase(IsolatedAsyncioTestCase):
    async def node(self, **options: Any) -> DevNode:
        return await self.enterAsyncContext(DevNode(secret=SECRET, **{"http_ports": [0], **options}))

    async def client(self, node: DevNode, *hostnames: str, **claims: Any) -> RawClient:
        return await self.enterAsyncContext(session(node, *hostnames, **claims))

    async def user(self, node: DevNode, first: bytes = HEAD) -> TcpUser:
        user = await self.enterAsyncContext(TcpUser(node.public_port("http")))
        await user.send(first)
        return user

    async def stream(self, node: DevNode, client: RawClient) -> tuple[TcpUser, str]:
        """A user whose `connect` and first data the client has seen."""
        user = await self.user(node)
        stream_id = (await client.control())["client_id"]
        self.assertEqual(await client.data(stream_id), HEAD)
        return user, stream_id


class RoutingTests(StreamTestCase):
    async def test_by_host(self) -> None:
        node = await self.node(http_ports={80: 0})
        client = await self.client(node)
        user = await self.user(node)
        connect = await client.control()
        self.assertEqual(uuid.UUID(connect.pop("client_id")).version, 4)
        self.assertEqual(
            connect,
            {
                "event": "connect",
                "conn_port": 80,
                "client_ip": user.address,
                "transport": "tcp",
                "hostname": HOST,
                "credits": 64,
            },
        )

    async def test_by_sni(self) -> None:
        node = await self.node(tls_ports={443: 0})
        client = await self.client(node)

        async def connect() -> None:
            async with TcpUser(node.public_port("tls"), server_name=HOST):
                pass

        user = asyncio.create_task(connect())
        fields = await client.control()
        self.assertEqual((fields["hostname"], fields["is_tls"], fields["conn_port"]), (HOST, True, 443))
        self.assertEqual((await client.data(fields["client_id"]))[:1], b"\x16")
        node.close_sessions()
        with self.assertRaises(OSError):
            await user

    async def test_token_dialect_says_less(self) -> None:
        node = await self.node(dialect="token", http_ports={80: 0})
        client = await self.client(node)
        user = await self.user(node)
        connect = await client.control()
        del connect["client_id"]
        self.assertEqual(connect, {"event": "connect", "conn_port": 80, "client_ip": user.address, "hostname": HOST})

    async def test_no_route_closes_the_user(self) -> None:
        node = await self.node(peek_timeout=0.05)
        for first in (HEAD, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"x" * 65536):
            user = await self.user(node, first)
            self.assertEqual(await user.receive_all(), b"")
        self.assertEqual(node.counters.no_route, 4)

    async def test_a_large_head_comes_as_one_message(self) -> None:
        node = await self.node()
        client = await self.client(node)
        head = request_head(HOST, "/", headers={"X-Long": "x" * 40_000})
        # The Host at the end makes the node read everything before it.
        first = head.replace(f"Host: {HOST}\r\n".encode(), b"").replace(
            b"\r\n\r\n", f"\r\nHost: {HOST}\r\n\r\n".encode()
        )
        await self.user(node, first)
        self.assertEqual(await client.data((await client.control())["client_id"]), first)

    async def test_later_messages_have_at_most_32_kib(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await user.send(b"x" * 100_000)
        received = 0
        while received < 100_000:
            payload = await client.data(stream_id)
            self.assertLessEqual(len(payload), 32 * 1024)
            received += len(payload)

    async def test_sessions_of_a_hostname_share_by_weight(self) -> None:
        node = await self.node()
        light = await self.client(node, HOST, weight=1)
        heavy = await self.client(node, HOST, weight=3)
        for _ in range(4):
            await self.user(node)
        seen = node.sessions[0].counters, node.sessions[1].counters
        await node.wait_until(lambda: sum(counters.streams_opened for counters in seen) == 4)
        self.assertEqual([counters.streams_opened for counters in seen], [1, 3])
        await light.control()
        await heavy.control()

    async def test_claimed_port_opens_without_a_word_of_the_user(self) -> None:
        node = await self.node(tcp_ports={2222: 0})
        client = await self.client(node, tcp_ports=[2222])
        async with TcpUser(node.public_port("tcp")) as user:
            fields = await client.control()
            self.assertEqual((fields["hostname"], fields["conn_port"]), ("tcp:2222", 2222))
            await client.send_data(fields["client_id"], b"SSH-2.0\r\n")
            self.assertEqual(await user.receive(9), b"SSH-2.0\r\n")


class EndTests(StreamTestCase):
    async def test_user_leaves(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await user.send(b"last words")
        user.send_eof()
        self.assertEqual(await client.data(stream_id), b"last words")
        self.assertEqual(await client.control(), {"event": "disconnect", "client_id": stream_id})
        self.assertEqual(await user.receive_all(), b"")
        await client.send_control("disconnect", stream_id, reason="normal")
        await node.wait_until(lambda: node.sessions[0].counters.streams_closed == 1)

    async def test_client_disconnects_and_everything_is_flushed(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        user.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(64):
            await client.send_data(stream_id, b"x" * 32_768)
        await client.send_control("disconnect", stream_id, reason="normal")
        await node.wait_until(lambda: not node.sessions[0].streams)
        user.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.assertEqual(len(await user.receive_all()), 64 * 32_768)
        # No disconnect comes back, only the grants for what was taken.
        await client.send_control("ping_client", stream_id)
        for _ in range(8):
            self.assertEqual((await client.control())["event"], "resume_stream")
        await self._is_silent(node, client)

    async def _is_silent(self, node: DevNode, client: RawClient) -> None:
        """Nothing came before a challenge that is asked for now."""
        node.challenge_all()
        self.assertEqual((await client.challenge())["type"], "reauth_challenge")

    async def test_data_for_an_unknown_stream_is_counted(self) -> None:
        node = await self.node()
        client = await self.client(node)
        await client.send_data(str(uuid.uuid4()), b"x")
        await client.send_control("disconnect", str(uuid.uuid4()), reason="unknown")
        await self.stream(node, client)
        counters = node.counters
        self.assertEqual((counters.unknown_data, counters.unknown_disconnects, counters.late_disconnects), (1, 1, 1))

    async def test_the_end_of_the_session_cuts_its_users(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, _ = await self.stream(node, client)
        await client.websocket.close()
        self.assertEqual(await user.receive_all(), b"")
        self.assertEqual(node.counters.streams_cut, 1)

    async def test_a_dead_session_gets_its_share_and_loses_it(self) -> None:
        node = await self.node(dead_session_linger=60)
        dead = await self.client(node)
        dead.websocket.transport.abort()
        await node.wait_for_sessions(0)
        alive = await self.client(node)
        users = [await self.user(node) for _ in range(4)]
        await alive.control()
        await node.wait_until(lambda: sum(stream.session is not None for stream in node.tcp_streams) == 4)
        for gone in node.dead_sessions:
            gone.bury()
        await node.wait_until(lambda: not node.dead_sessions)
        lost = [user for user in users if user.address not in self._carried(node)]
        self.assertEqual(len(lost), 2)
        for user in lost:
            self.assertEqual(await user.receive_all(), b"")

    def _carried(self, node: DevNode) -> set[str]:
        transports = (stream.transport for stream in node.tcp_streams if stream.session in node.sessions)
        return {"{}:{}".format(*transport.get_extra_info("peername")) for transport in transports if transport}

    async def test_idle_streams_are_killed(self) -> None:
        node = await self.node(idle_timeout=0.1)
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        fields = await client.control()
        self.assertEqual((fields["event"], fields["client_id"]), ("disconnect", stream_id))
        self.assertEqual(await user.receive_all(), b"")
        self.assertEqual(node.counters.idle_kills, 1)


class CreditTests(StreamTestCase):
    async def test_grants_come_eight_at_a_time_as_the_user_takes_data(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        for _ in range(17):
            await client.send_data(stream_id, b"x")
        for _ in range(2):
            self.assertEqual(await client.control(), {"event": "resume_stream", "client_id": stream_id, "credits": 8})
        await user.receive(17)

    async def test_no_grants_in_the_token_dialect(self) -> None:
        node = await self.node(dialect="token")
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        for _ in range(9):
            await client.send_data(stream_id, b"x")
        await user.receive(9)
        user.send_eof()
        self.assertEqual((await client.control())["event"], "disconnect")

    async def test_over_sending_kills_the_stream(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        user.writer.transport.pause_reading()  # type: ignore[attr-defined]
        counters = node.sessions[0].counters
        while not counters.over_sends:
            await client.send_data(stream_id, b"x" * 32_768)
        self.assertEqual(counters.users_killed, 1)
        self.assertGreater(counters.sends_without_credit, 0)
        events = [await client.control()]
        while events[-1]["event"] != "disconnect":
            events.append(await client.control())
        self.assertEqual(events[-1]["reason"], "buffer_full")

    async def test_credits_are_never_too_many_for_the_buffer(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        user.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent, credits = 0, 64
        while credits:  # as much as is allowed, until the user's socket takes nothing more
            for _ in range(credits):
                await client.send_data(stream_id, b"x" * 32_768)
            sent, credits = sent + credits, 0
            await client.send_control("ping_client", stream_id)
            while (fields := await client.control())["event"] != "pong_client":
                credits += fields["credits"]
        counters = node.sessions[0].counters
        self.assertEqual((counters.over_sends, counters.sends_without_credit), (0, 0))
        await client.send_control("disconnect", stream_id, reason="normal")
        user.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.assertEqual(len(await user.receive_all()), sent * 32_768)

    async def test_the_users_data_stops_without_credits(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await client.send_control("resume_stream", stream_id, credits=2)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")
        user.writer.write(b"x" * 200_000)
        for _ in range(2):
            await client.data(stream_id)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")
        await client.send_control("resume_stream", stream_id, credits=1)
        await client.data(stream_id)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")

    async def test_without_credits_for_too_long_the_stream_is_killed(self) -> None:
        node = await self.node(idle_timeout=0.1)
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await client.send_control("resume_stream", stream_id, credits=1)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")
        user.writer.write(b"x" * 200_000)
        await client.data(stream_id)
        self.assertEqual((await client.control())["event"], "disconnect")
        self.assertEqual(node.counters.idle_kills, 1)

    async def test_pause_and_resume(self) -> None:
        node = await self.node()
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await client.send_control("pause_stream", stream_id)
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")
        await user.send(b"later")
        await client.send_control("ping_client", stream_id)
        self.assertEqual((await client.control())["event"], "pong_client")
        await client.send_control("resume_stream", stream_id)
        self.assertEqual(await client.data(stream_id), b"later")

    async def test_pings_are_answered_for_known_streams_only(self) -> None:
        node = await self.node()
        client = await self.client(node)
        _, stream_id = await self.stream(node, client)
        await client.send_control("ping_client", str(uuid.uuid4()))
        await client.send_control("ping_client", stream_id)
        self.assertEqual(await client.control(), {"event": "pong_client", "client_id": stream_id})
        self.assertEqual((node.counters.pings, node.counters.pongs), (2, 1))


class LaneTests(StreamTestCase):
    async def test_a_full_lane_drops_and_kills(self) -> None:
        """The client's socket takes nothing: with tiny messages the lane is full long before memory is."""
        node = await self.node(write_timeout=60, lane_size=16)
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        client.websocket.transport.pause_reading()
        up = node.sessions[0]
        user.writer.write(b"x" * 32_000_000)
        await node.wait_until(lambda: up.counters.users_killed == 1)
        self.assertEqual(await user.receive_all(), b"")
        self.assertEqual((up.counters.data_dropped, up.counters.disconnects_dropped), (1, 1))
        self.assertEqual((len(up.connection.lane), up.connection.lane.peak), (16, 16))
        # A new user finds it full too.
        late = await self.user(node)
        self.assertEqual(await late.receive_all(), b"")
        self.assertEqual(up.counters.connects_dropped, 1)
        # The client never hears of the end; the data that was queued comes.
        client.websocket.transport.resume_reading()
        while len(up.connection.lane):
            self.assertTrue(await client.data(stream_id))
        await client.send_control("ping_client", stream_id)
        await node.wait_until(lambda: up.counters.pings == 1)
        self.assertEqual((up.counters.pongs, len(node.sessions)), (0, 1))

    async def test_a_client_that_takes_nothing_is_dropped(self) -> None:
        node = await self.node(write_timeout=0.1)
        client = await self.client(node)
        user, _ = await self.stream(node, client)
        client.websocket.transport.pause_reading()
        user.writer.write(b"x" * 32_000_000)
        await node.wait_for_sessions(0)
        self.assertEqual(await user.receive_all(), b"")

    async def test_token_dialect_waits_for_a_slow_user(self) -> None:
        node = await self.node(dialect="token")
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        user.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def flood() -> None:
            for _ in range(1000):
                await client.send_data(stream_id, b"x" * 32_768)
            await client.send_control("disconnect", stream_id)

        sending = asyncio.create_task(flood())
        counters = node.sessions[0].counters
        await client.websocket.ping()
        user.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.assertEqual(len(await user.receive_all()), 1000 * 32_768)
        await sending
        self.assertEqual(counters.over_sends, 0)


class OneWriterTests(StreamTestCase):
    async def uploads(self, number: int, first_grant: int, **options: Any) -> DevNode:
        """So many users send at once to a client that reads all the time and grants what it has read."""
        node = await self.node(**options)
        client = await self.client(node)

        async def read() -> None:
            while True:
                message = await client.receive()
                assert isinstance(message, bytes)
                if message[:1] == b"\x01":
                    await client.send_control("resume_stream", str(uuid.UUID(bytes=message[1:17])), credits=1)
                else:
                    fields = json.loads(message[1:])
                    if fields["event"] == "connect":
                        await client.send_control("resume_stream", fields["client_id"], credits=first_grant)

        reading = asyncio.create_task(read())
        self.addCleanup(reading.cancel)
        users = [await self.user(node, HEAD + b"x" * 3_000_000) for _ in range(number)]
        for user in users:
            user.send_eof()
        await node.wait_until(lambda: node.counters.streams_closed == number, timeout=20)
        return node

    async def test_windows_that_fit_into_the_lane_lose_nothing(self) -> None:
        node = await self.uploads(4, 8, lane_size=64, one_writer=True)
        self.assertEqual(node.counters.lane_drops, 0)
        self.assertEqual(node.counters.bytes_out, 4 * (len(HEAD) + 3_000_000))

    async def test_windows_that_do_not_fit_lose_connections(self) -> None:
        node = await self.uploads(4, 64, lane_size=64, one_writer=True)
        self.assertGreater(node.counters.data_dropped, 0)
        self.assertGreater(node.counters.users_killed, 0)

    async def test_without_it_a_client_that_reads_loses_nothing(self) -> None:
        node = await self.uploads(4, 64, lane_size=64)
        self.assertEqual(node.counters.lane_drops, 0)


class ManyUsersTests(StreamTestCase):
    async def test_requests_one_after_the_other(self) -> None:
        node = await self.node()
        client = await self.client(node)

        async def answer() -> None:
            while True:
                fields = await client.control()
                if fields["event"] == "connect":
                    await client.data(fields["client_id"])
                    await client.send_data(fields["client_id"], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await client.send_control("disconnect", fields["client_id"], reason="normal")

        answering = asyncio.create_task(answer())
        for _ in range(20):
            self.assertEqual((await http_get(node.public_port("http"), HOST)).body, b"ok")
        answering.cancel()
        self.assertEqual(node.counters.streams_opened, 20)
        await node.wait_until(lambda: node.counters.streams_closed == 20 and not node.tcp_streams)
