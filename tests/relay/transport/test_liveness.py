from unittest import TestCase

from relay.timings import Timings
from relay.transport.liveness import Liveness

TIMINGS = Timings(dead_after=10, ping_interval=5)


class LivenessTests(TestCase):
    def looks(self, liveness: Liveness, until: float, written: int = 0, unsent: int = 0) -> tuple[float, str]:
        """Look once a second; return when something was wrong, and what."""
        now = liveness.heard_at
        while now < until:
            now += 1
            if problem := liveness.problem(now, written, unsent):
                return now, problem
        return now, ""

    def test_a_node_that_says_nothing(self) -> None:
        liveness = Liveness(TIMINGS, 100.0)
        self.assertEqual(self.looks(liveness, 200), (110, "no frame and no pong from the node for 10 s"))
        liveness.heard_at = 109.5
        self.assertEqual(liveness.problem(110.0, 0, 0), "")

    def test_a_node_that_takes_nothing(self) -> None:
        liveness = Liveness(TIMINGS, 100.0)
        said = "node took nothing of a write for 10 s"
        for now in range(101, 120):
            liveness.heard_at = float(now)
            # From 105 on it takes no more of the 50 bytes.
            problem = liveness.problem(float(now), 50, 45 if now < 105 else 40)
            self.assertEqual(problem, said if now >= 115 else "", now)

    def test_a_process_that_slept_reads_first(self) -> None:
        liveness = Liveness(TIMINGS, 100.0)
        self.assertEqual(liveness.problem(1000.0, 50, 50), "")
        self.assertEqual(liveness.problem(1005.0, 50, 50), "")
        self.assertEqual(liveness.problem(1010.0, 50, 0), "no frame and no pong from the node for 10 s")

    def test_when_it_is_asked(self) -> None:
        liveness = Liveness(TIMINGS, 100.0)
        self.assertEqual([liveness.is_due(now) for now in (104.9, 105.0)], [False, True])
        liveness.asked_at = 105.0
        self.assertFalse(liveness.is_due(109.9))
