"""Tests of relay.sessions.streams: what a stream asks of its host, and nothing else."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay.events import StreamInfo
from relay.protocol.messages import Connect, Reason
from relay.protocol.stream import StreamState
from relay.sessions.streams import Stream, StreamPhase, StreamStep
from relay.sessions.totals import Totals
from relay.timings import Timings


class Host:
    """A `StreamHost` that notes what it is told."""

    tenant = "shop"
    write_blocked = False

    def __init__(self) -> None:
        self.read_buffer = memoryview(bytearray(16))
        self.timings = Timings()
        self.totals = Totals()
        self.told: list[tuple[str, object]] = []

    def takes(self, size: int) -> bool:
        return True

    def block(self, stream: Stream) -> None:
        self.told.append(("block", stream))

    def send_data(self, stream: Stream, payload: bytes | memoryview) -> None:
        self.told.append(("send", bytes(payload)))

    def send_read(self, stream: Stream, size: int) -> None:
        self.told.append(("send", bytes(self.read_buffer[:size])))

    def consumed(self, stream: Stream, count: int) -> None:
        self.told.append(("consumed", count))

    def stream_begun(self, stream: Stream) -> None:
        self.told.append(("begun", stream))

    def stream_queued(self, stream: Stream, count: int) -> None:
        self.told.append(("queued", count))

    def stream_ended(self, stream: Stream, reason: str) -> None:
        self.told.append(("ended", reason))

    def stream_gone(self, stream: Stream) -> None:
        self.told.append(("gone", stream))

    def give_up(self, stream: Stream) -> None:
        self.told.append(("give up", stream))

    def info_of(self, stream: Stream) -> StreamInfo:
        return StreamInfo("app", "shop", "node", stream.id, "a.example", 80, "tcp", "", stream.target)


def stream_of(host: Host) -> Stream:
    return Stream(host, StreamState(bytes(16), Connect(bytes(16), hostname="a.example"), None, 0.0))


class StreamTests(SimpleTestCase):
    def test_the_node_is_told_of_an_end_once(self) -> None:
        host = Host()
        stream = stream_of(host)
        stream.end(Reason.TIMEOUT)
        stream.end(Reason.NORMAL)
        self.assertEqual((host.told, stream.reason), ([("ended", Reason.TIMEOUT)], Reason.TIMEOUT))
        self.assertEqual((stream.phase, stream.ended), (StreamPhase.ENDED, True))

    def test_a_user_who_left_is_told_nothing(self) -> None:
        host = Host()
        stream = stream_of(host)
        stream.advance(StreamStep.TARGET_DONE)
        self.assertFalse(stream.ended)
        stream.advance(StreamStep.USER_LEFT)
        stream.end(Reason.NORMAL)
        self.assertEqual((host.told, stream.finishing, stream.ended), ([], True, True))

    def test_what_is_dropped_stays_dropped(self) -> None:
        stream = stream_of(Host())
        for step in (StreamStep.ABORTED, StreamStep.TARGET_CLOSED, StreamStep.ABORTED):
            stream.advance(step)
            self.assertEqual((stream.phase, stream.finishing), (StreamPhase.DROPPED, False))

    def test_what_it_is_said_to_be(self) -> None:
        host = Host()
        stream = stream_of(host)
        self.assertEqual((stream.tenant, stream.info().stream_id), ("shop", stream.id))
        stream.give_up()
        self.assertEqual(host.told, [("give up", stream)])
