from unittest import TestCase

from relay.devnode.lane import Lane


class LaneTests(TestCase):
    def test_first_in_first_out(self) -> None:
        lane = Lane(2)
        lane.offer(b"a")
        lane.offer(b"b")
        self.assertEqual((lane.take(), lane.take(), lane.take()), (b"a", b"b", None))

    def test_what_finds_it_full_is_lost(self) -> None:
        lane = Lane(256)
        self.assertTrue(all(lane.offer(b"x") for _ in range(256)))
        self.assertFalse(lane.offer(b"y"))
        self.assertEqual((len(lane), lane.peak), (256, 256))
        lane.take()
        self.assertTrue(lane.offer(b"z"))
