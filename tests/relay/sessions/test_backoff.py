"""Tests of relay.sessions.backoff."""

import random
from itertools import pairwise

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay import Timings
from relay.protocol.events import EndKind
from relay.sessions.backoff import Backoff

TIMES = Timings()
REFUSALS = (EndKind.REFUSED, EndKind.WRONG_DIALECT)


def most(kind: EndKind, failures: int, draws: int = 300) -> list[float]:
    """Return the largest delay seen for the first, second, … failure of a kind."""
    largest = [0.0] * failures
    for _ in range(draws):
        pause = Backoff()
        for number in range(failures):
            largest[number] = max(largest[number], pause.next(kind, 0))
    return largest


class BackoffTests(SimpleTestCase):
    def setUp(self) -> None:
        state = random.getstate()
        self.addCleanup(random.setstate, state)
        random.seed(20)

    @given(st.lists(st.tuples(st.sampled_from(EndKind), st.floats(0, 10**6)), max_size=60), st.integers(0, 2**32))
    def test_every_delay_is_within_its_bounds(self, ends: list[tuple[EndKind, float]], seed: int) -> None:
        random.seed(seed)
        now = 0.0
        pause = Backoff(clock=lambda: now)
        for kind, uptime in ends:
            now += 10
            delay = pause.next(kind, uptime)
            if kind is EndKind.RATE_LIMITED:
                self.assertTrue(60 <= delay <= 75)
            elif kind in REFUSALS or pause.believes_refusal:
                self.assertTrue(15 <= delay <= 300)
            else:
                self.assertTrue(
                    TIMES.retry_least <= delay <= TIMES.retry_longest, "never without a delay, never too long"
                )

    def test_the_bound_doubles_to_the_ceiling(self) -> None:
        largest = most(EndKind.LOST, 10)
        for number, found in enumerate(largest):
            bound = min(TIMES.retry_longest, 2.0**number)
            self.assertTrue(0.8 * bound < found <= bound, (number, found))

    def test_full_jitter(self) -> None:
        delays = []
        for _ in range(1000):
            pause = Backoff()
            for _ in range(7):
                pause.next(EndKind.LOST, 0)
            delays.append(pause.next(EndKind.LOST, 0))
        for low in range(0, 30, 5):
            self.assertGreater(sum(low <= delay < low + 5 for delay in delays), 100)

    def test_only_a_stable_session_resets(self) -> None:
        pause = Backoff()
        for _ in range(8):
            pause.next(EndKind.LOST, TIMES.stable_after - 0.1)
        self.assertGreater(max(pause.next(EndKind.LOST, 5) for _ in range(50)), 6)
        self.assertLessEqual(pause.next(EndKind.LOST, TIMES.stable_after), TIMES.retry_first)

    def test_a_node_that_took_the_session_is_tried_soon(self) -> None:
        for _ in range(100):
            pause = Backoff()
            for _ in range(8):
                pause.next(EndKind.LOST, 0)
            self.assertLessEqual(pause.next(EndKind.LOST, 5), 8)

    def test_refused_credentials_are_retried_slowly_and_for_ever(self) -> None:
        for kind in REFUSALS:
            largest = most(kind, 8)
            self.assertTrue(all(a <= b * 1.1 for a, b in pairwise(largest)))
            self.assertLessEqual(largest[0], 30)
            self.assertGreater(largest[-1], 280)
            pause = Backoff()
            self.assertTrue(all(15 <= pause.next(kind, 0) <= 300 for _ in range(2000)))

    def test_changed_credentials_are_tried_afresh(self) -> None:
        pause = Backoff()
        for _ in range(10):
            pause.next(EndKind.REFUSED, 0)
        pause.reset()
        self.assertLessEqual(pause.next(EndKind.REFUSED, 0), 30)

    def test_a_likely_refusal_is_believed_when_it_repeats_over_a_minute(self) -> None:
        now = 1000.0
        pause = Backoff(clock=lambda: now)
        for _ in range(20):
            self.assertLessEqual(pause.next(EndKind.LIKELY_REFUSED, 0), TIMES.retry_longest)
            self.assertFalse(pause.believes_refusal, "often, but in no time")
        now += TIMES.likely_after
        self.assertTrue(15 <= pause.next(EndKind.LIKELY_REFUSED, 0) <= 60)
        self.assertTrue(pause.believes_refusal)
        for _ in range(50):
            self.assertTrue(15 <= pause.next(EndKind.LIKELY_REFUSED, 0) <= 60)
        pause.next(EndKind.LOST, 0)
        self.assertFalse(pause.believes_refusal)
        self.assertLessEqual(pause.next(EndKind.LIKELY_REFUSED, 0), TIMES.retry_longest)
        now += TIMES.likely_after
        pause.next(EndKind.LIKELY_REFUSED, 0)
        self.assertFalse(pause.believes_refusal, "long, but only twice")
        pause.next(EndKind.LIKELY_REFUSED, 0)
        self.assertTrue(pause.believes_refusal)
        pause.reset()
        self.assertFalse(pause.believes_refusal)

    def test_an_outage_of_the_nodes_verifier_has_the_ordinary_delays(self) -> None:
        pause = Backoff()
        for number in range(100):
            bound = min(TIMES.retry_longest, TIMES.retry_first * 2 ** min(number, 16))
            self.assertLessEqual(pause.next(EndKind.VERIFIER_AWAY, 0), bound)

    def test_who_is_asked_for_patience_does_not_come_back_with_all_others(self) -> None:
        delays = [Backoff().next(EndKind.RATE_LIMITED, 0) for _ in range(200)]
        self.assertGreater(max(delays) - min(delays), 12)
        self.assertEqual(len(set(delays)), len(delays))

    def test_rate_limits_do_not_grow(self) -> None:
        pause = Backoff()
        delays = [pause.next(EndKind.RATE_LIMITED, 0) for _ in range(100)]
        self.assertTrue(all(60 <= delay <= 75 for delay in delays))
        self.assertTrue(min(delays) < 63 and max(delays) > 72, "a node that limits has many clients")
        self.assertLessEqual(pause.next(EndKind.LOST, 0), TIMES.retry_first)
