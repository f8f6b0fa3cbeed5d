from django.test import SimpleTestCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.limits.rate_limit import TokenBucket


class BucketTests(SimpleTestCase):
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 3000)), max_size=60))
    def test_never_more_than_rate_burst_and_one(self, steps) -> None:
        bucket, now, taken = TokenBucket(1000, 500, 0.0), 0.0, 0
        for wait, count in steps:
            now += wait
            if bucket.take(count, now):
                taken += count
                self.assertLessEqual(taken - count, 500 + 1000 * now + 1e-6)

    def test_a_debt_has_to_come_back(self) -> None:
        bucket = TokenBucket(100, 50, 0.0)
        self.assertTrue(bucket.take(150, 0.0))
        self.assertFalse(bucket.take(1, 0.0))
        self.assertAlmostEqual(bucket.ready_in(), 1.0)
        self.assertFalse(bucket.take(1, 0.99))
        self.assertTrue(bucket.take(1, 1.01))

    def test_another_rate_forgives_no_debt(self) -> None:
        bucket = TokenBucket(100, 50, 0.0)
        self.assertTrue(bucket.take(150, 0.0))
        bucket.change(1000, 500, 0.5)  # half of the debt came back at the old rate
        self.assertFalse(bucket.take(1, 0.54))
        self.assertTrue(bucket.take(1, 0.56))

    def test_another_rate_cuts_and_gives_what_was_saved_up(self) -> None:
        bucket = TokenBucket(100, 50, 0.0)
        bucket.change(100, 20, 0.0)
        self.assertEqual([bucket.spend(20, 0.0), bucket.spend(1, 0.0)], [True, False])
        bucket = TokenBucket(0, 0, 0.0)
        bucket.change(100, 20, 0.0)
        self.assertEqual([bucket.spend(20, 0.0), bucket.spend(1, 0.0)], [True, False])

    def test_a_rate_of_0_is_no_limit(self) -> None:
        bucket = TokenBucket(0, 0, 0.0)
        self.assertTrue(all(bucket.take(1e9, 0.0) for _ in range(100)))

    def test_what_is_spent_leaves_no_debt(self) -> None:
        bucket = TokenBucket(10, 2, 0.0)
        self.assertEqual([bucket.spend(1, 0.0) for _ in range(3)], [True, True, False])
        self.assertFalse(bucket.spend(1, 0.05))
        self.assertEqual([bucket.spend(1, 0.125) for _ in range(2)], [True, False])
        self.assertTrue(TokenBucket(0, 0, 0.0).spend(1e9, 0.0))

    def test_the_last_token_is_taken_and_none_is_there_then(self) -> None:
        bucket = TokenBucket(10, 2, 0.0)
        self.assertEqual(bucket.ready_in(), 0.0)
        self.assertEqual([bucket.take(1, 0.0) for _ in range(3)], [True, True, False])
        self.assertEqual(bucket.ready_in(), 0.0)
        bucket = TokenBucket(10, 2, 0.0)
        self.assertTrue(bucket.take(1.5, 0.0))
        self.assertTrue(bucket.take(1, 0.0))  # half a token is one to take on
        self.assertFalse(bucket.take(1, 0.0))
        self.assertAlmostEqual(bucket.ready_in(), 0.05)
        self.assertEqual(TokenBucket(0, 0, 0.0).ready_in(), 0.0)

    def test_another_rate_forgives_no_debt_and_saves_no_more_than_it_may(self) -> None:
        bucket = TokenBucket(10, 5, 0.0)
        self.assertTrue(bucket.take(25, 0.0))
        bucket.change(4, 100, 1.0)
        self.assertAlmostEqual(bucket.ready_in(), 10 / 4)
        self.assertFalse(bucket.spend(1, 3.5))
        bucket.change(1, 3, 1_000.0)
        self.assertEqual([bucket.spend(1, 1_000.0) for _ in range(4)], [True, True, True, False])
        bucket.change(0, 0, 1_000.0)
        bucket.change(1, 2, 1_000.0)  # of no rate nothing was used
        self.assertEqual([bucket.spend(1, 1_000.0) for _ in range(3)], [True, True, False])
