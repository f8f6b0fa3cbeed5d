"""Tests of relay.devnode.tcp_stream: when a stream is idle."""

from __future__ import annotations

from unittest import mock

from relay.devnode.tcp_stream import NodeTcpStream
from tests.relay.devnode.test_streams import StreamTestCase


class IdleTests(StreamTestCase):
    async def test_what_was_written_lately_gives_an_idle_stream_as_long_again(self) -> None:
        node = await self.node(idle_timeout=1000.0)
        client = await self.client(node)
        user, stream_id = await self.stream(node, client)
        await client.send_data(stream_id, b"x")
        await user.receive(1)
        (stream,) = node.sessions[0].streams.values()
        assert isinstance(stream, NodeTcpStream)
        read = stream._last_read
        with mock.patch.object(stream, "_set_idle_timer") as timer, mock.patch.object(stream, "_loop") as loop:
            stream._last_write = read + 300
            # When it looks, and the time until it looks again.
            for now, left in ((500, 500), (1000, 1000), (1999, 1)):
                loop.time.return_value = read + now
                stream._check_idle()
                self.assertAlmostEqual(timer.call_args.args[0], left, 3)
            loop.time.return_value = read + 2000
            timer.reset_mock()
            stream._check_idle()
            timer.assert_not_called()
        self.assertEqual((await client.control())["event"], "disconnect")
        self.assertEqual(node.counters.idle_kills, 1)
