"""Tests of relay.protocol.credits, against a model of the node's side."""

import random
from collections import deque

from django.test import SimpleTestCase
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.credits import BUDGET, CEILING, FIRST, FLOOR, LANE_MESSAGES, GrantBudget, ReceiveWindow


class ModelStream:
    """One stream: the credits at the node, what is on its way, and what waits for the target."""

    def __init__(self, budget: GrantBudget) -> None:
        self.budget = budget
        self.window: ReceiveWindow = budget.add()
        self.semaphore = max(CEILING, self.window.size)
        self.grants: deque[int] = deque([self.window.size])
        self.credits = 0
        self.lane = 0
        self.queued = 0

    def node_sends(self) -> None:
        if self.credits:
            self.credits -= 1
            self.lane += 1

    def message_arrives(self) -> None:
        if self.lane:
            self.lane -= 1
            self.queued += 1

    def grant_arrives(self) -> None:
        if self.grants:
            self.credits += self.grants.popleft()
            assert self.credits <= self.semaphore, "the node loses credits"

    def target_takes(self, count: int = 1) -> None:
        count = min(count, self.queued)
        if count:
            self.queued -= count
            grant = self.budget.consume(self.window, count)
            assert grant >= 0
            if grant:
                self.grants.append(grant)

    def settle(self) -> None:
        """Let everything that is under way arrive and be taken."""
        while self.lane or self.queued or self.grants:
            self.grant_arrives()
            self.message_arrives()
            self.target_takes()

    @property
    def outstanding(self) -> int:
        return self.credits + sum(self.grants) + self.lane + self.queued


class WindowModelTests(SimpleTestCase):
    def check(self, budget: GrantBudget, streams: list[ModelStream], *, woken: bool) -> None:
        active = [stream for stream in streams if stream.window.active]
        self.assertEqual(budget.open, sum(stream.window.size for stream in active))
        for stream in streams:
            self.assertEqual(stream.window.size, stream.outstanding + stream.window.consumed)
            self.assertTrue(FLOOR <= stream.window.size <= CEILING)
            self.assertGreaterEqual(stream.outstanding, 1, "the window has stalled")
        if not woken:
            self.assertLessEqual(budget.open, budget.total + FLOOR * len(active))

    def run_model(self, seed: int, most: int, total: int, *, rest: bool) -> None:
        pick = random.Random(seed)
        budget = GrantBudget(total)
        streams: list[ModelStream] = []
        for _ in range(pick.randint(50, 600)):
            choice = pick.random()
            if not streams or (choice < 0.06 and len(streams) < most):
                streams.append(ModelStream(budget))
            elif choice < 0.08:
                budget.rest(streams.pop(pick.randrange(len(streams))).window)
            else:
                stream = pick.choice(streams)
                if rest and choice < 0.13:
                    budget.rest(stream.window)
                else:
                    pick.choice(
                        [
                            stream.node_sends,
                            stream.message_arrives,
                            stream.grant_arrives,
                            stream.target_takes,
                            lambda stream=stream: stream.target_takes(pick.randint(1, 20)),
                        ]
                    )()
            self.check(budget, streams, woken=rest)
        for stream in streams:
            stream.settle()
            self.assertGreaterEqual(stream.credits, 1, "a stream whose target took all can not go on")
        self.check(budget, streams, woken=rest)
        # Whatever was lent and taken back: once all have spoken for a while, the budget holds again.
        for _ in range(12):
            for stream in streams:
                while stream.credits:
                    stream.node_sends()
                stream.settle()
        self.check(budget, streams, woken=False)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 120), st.integers(FLOOR, LANE_MESSAGES - 1))
    def test_streams_that_come_and_go(self, seed: int, most: int, total: int) -> None:
        self.run_model(seed, most, total, rest=False)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 120), st.sampled_from([BUDGET, 8, LANE_MESSAGES - 1]))
    def test_idle_streams_that_wake(self, seed: int, most: int, total: int) -> None:
        self.run_model(seed, most, total, rest=True)


class GrantTests(SimpleTestCase):
    def test_a_lone_stream_grows_to_the_ceiling(self) -> None:
        budget = GrantBudget()
        window = budget.add()
        self.assertEqual(window.size, FIRST)
        granted = FIRST + sum(budget.consume(window) for _ in range(FIRST // 2))
        self.assertEqual(window.size, CEILING)
        self.assertEqual(granted - FIRST // 2, CEILING)
        self.assertEqual(sum(budget.consume(window) for _ in range(10 * CEILING)), 10 * CEILING)

    def test_four_uploads_stay_below_the_lane(self) -> None:
        budget = GrantBudget()
        windows = [budget.add() for _ in range(4)]
        for _ in range(1000):
            for window in windows:
                budget.consume(window)
        self.assertLessEqual(budget.open, BUDGET)
        self.assertGreaterEqual(min(window.size for window in windows), 32)

    def test_grants_come_in_batches_of_half_a_window(self) -> None:
        budget = GrantBudget(64)
        windows = [budget.add() for _ in range(4)]
        for window in windows:
            due = -(-window.size // 2)
            self.assertEqual([budget.consume(window) for _ in range(due - 1)], [0] * (due - 1))
            self.assertGreater(budget.consume(window), 0)

    def test_a_window_narrows_by_what_was_consumed(self) -> None:
        for consumed, size, grant in ((16, 16, 0), (20, 12, 0), (24, 8, 0), (25, 8, 1), (32, 8, 8)):
            with self.subTest(consumed):
                budget = GrantBudget(32)
                window = budget.add()
                self.assertEqual((budget.consume(window, 4), window.size), (28, 32))
                others = [budget.add() for _ in range(3)]
                self.assertEqual(budget.consume(window, consumed), grant)
                self.assertEqual((window.size, window.consumed), (size, 0))
                self.assertEqual(budget.open, size + sum(other.size for other in others))

    def test_many_streams_have_the_floor(self) -> None:
        budget = GrantBudget()
        windows = [budget.add() for _ in range(1000)]
        self.assertEqual(windows[-1].size, FLOOR)
        self.assertLessEqual(budget.open, BUDGET + FLOOR * 1000)

    def test_resting_lends_and_consuming_takes_back(self) -> None:
        budget = GrantBudget()
        window = budget.add()
        budget.rest(window)
        budget.rest(window)
        self.assertEqual(budget.open, 0)
        budget.consume(window)
        self.assertEqual(budget.open, window.size)

    def test_the_budget_stays_below_the_lane(self) -> None:
        for total in (-1, 0, 1, LANE_MESSAGES, 10**6):
            with self.assertRaisesRegex(ValueError, str(total)):
                GrantBudget(total)
