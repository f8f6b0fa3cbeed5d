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

    def test_a_rate_of_0_is_no_limit(self) -> None:
        bucket = TokenBucket(0, 0, 0.0)
        self.assertTrue(all(bucket.take(1e9, 0.0) for _ in range(100)))

    def test_what_is_spent_leaves_no_debt(self) -> None:
        bucket = TokenBucket(10, 2, 0.0)
        self.assertEqual([bucket.spend(1, 0.0) for _ in range(3)], [True, True, False])
        self.assertFalse(bucket.spend(1, 0.05))
        self.assertEqual([bucket.spend(1, 0.125) for _ in range(2)], [True, False])
        self.assertTrue(TokenBucket(0, 0, 0.0).spend(1e9, 0.0))
