"""Tests of relay.sessions.pauses: which streams do not get on."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay.events import Direction, RelayEvent, StreamPaused, StreamResumed
from relay.sessions.pauses import Pauses


def stream(**changes: Any) -> mock.Mock:
    """A stream in which nothing waits."""
    found = mock.Mock(ended=False, connected=True, queued=0, read_paused=False, state=mock.Mock())
    found.drained = found.state.bytes_sent = 100
    found.configure_mock(**changes)
    return found


class PausesTests(SimpleTestCase):
    def setUp(self) -> None:
        self.pauses, self.now = Pauses(), 0.0

    def look(self, *streams: mock.Mock) -> list[RelayEvent]:
        told: list[RelayEvent] = []
        self.now += 1
        self.pauses.look(streams, self.now, told.append)
        return told

    def test_a_stream_in_which_nothing_waits(self) -> None:
        idle = stream()
        for _ in range(3):
            self.assertEqual(self.look(idle), [])

    def test_a_download_that_nobody_takes(self) -> None:
        slow = stream(read_paused=True)
        self.assertEqual(self.look(slow), [])
        self.assertEqual(self.look(slow), [StreamPaused(slow.info(), Direction.DOWNLOAD)])
        self.assertEqual(self.look(slow), [])
        slow.read_paused = False
        self.assertEqual(self.look(slow), [StreamResumed(slow.info(), Direction.DOWNLOAD, 2.0)])
        self.assertEqual(self.look(slow), [])

    def test_what_gets_on_is_not_paused(self) -> None:
        """It waits at each look, and each time for something else."""
        steady = stream(read_paused=True, queued=10)
        for _ in range(4):
            self.assertEqual(self.look(steady), [])
            steady.state.bytes_sent += 1
            steady.drained += 1

    def test_an_upload_that_its_target_does_not_take(self) -> None:
        slow = stream(queued=50)
        self.assertEqual(self.look(slow), [])
        slow.queued = 80  # more comes, and none of it leaves
        self.assertEqual(self.look(slow), [StreamPaused(slow.info(), Direction.UPLOAD)])
        slow.drained = 101
        self.assertEqual(self.look(slow), [StreamResumed(slow.info(), Direction.UPLOAD, 1.0)])

    def test_streams_that_end_or_are_dialled_are_left_alone(self) -> None:
        gone, dialled = stream(read_paused=True), stream(queued=5, connected=False)
        for _ in range(2):
            told = self.look(gone, dialled)
        self.assertEqual(told, [StreamPaused(gone.info(), Direction.DOWNLOAD)])
        gone.ended = True
        self.assertEqual(self.look(gone, dialled), [])
        self.assertEqual(self.look(), [])
