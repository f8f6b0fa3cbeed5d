"""Token bucket: the one rate limit of the relay and of the registry; no clock and no I/O of its own."""

from __future__ import annotations


class TokenBucket:
    """Tokens that come back at a rate. Times are seconds of any monotonic clock.

    Args:
        rate: tokens a second; 0 for as many as are wanted.
        burst: the most that may be saved up.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = burst, now

    def change(self, rate: float, burst: float, now: float) -> None:
        """Take another rate; what was used stays used."""
        self._refill(now)
        self._tokens = min(self._tokens, burst) if self.rate else burst
        self.rate, self.burst = rate, burst

    def take(self, count: float, now: float) -> bool:
        """Take ``count`` tokens where any are left. May leave a debt, which has to come back first."""
        if not self.rate:
            return True
        self._refill(now)
        if self._tokens <= 0:
            return False
        self._tokens -= count
        return True

    def spend(self, count: float, now: float) -> bool:
        """Take ``count`` tokens where all of them are there; never leaves a debt."""
        if not self.rate:
            return True
        self._refill(now)
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def ready_in(self) -> float:
        """Return the seconds until there is a token, counted from the last `take`."""
        return max(0.0, -self._tokens / self.rate) if self.rate else 0.0

    def _refill(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
