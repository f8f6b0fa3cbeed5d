"""Delays before a session is tried again.

Full jitter: the delay is drawn evenly from zero to a bound that doubles with every failure, so that a thousand
backends that lost one node do not come back in one instant. The bound falls back only after a session has stayed up
for a while (docs/protocol.md, "Reconnecting").
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from relay.protocol.events import EndKind
from relay.timings import Timings

SERVED_FAILURES: Final = 3
"""Failures that are remembered of a node that took a session, if only for a moment: it is there, so the bound starts
again from the fourth, which still keeps a node that takes and drops sessions from being flooded."""

BELIEVED_AFTER: Final = 3
"""Likely refusals in a row that are taken for refusals, where they have gone on for `Timings.likely_after`."""


class Backoff:
    """The delays of one (backend, node).

    Args:
        clock: seconds of any monotonic clock.

    Attributes:
        believes_refusal: likely refusals have gone on for long enough to be taken for refusals.
    """

    def __init__(self, timings: Timings = Timings(), clock: Callable[[], float] = time.monotonic) -> None:
        self._timings = timings
        self._clock = clock
        self._likely_since = 0.0
        self.believes_refusal = False
        self._failures = 0
        self._refusals = 0
        self._likely = 0

    def reset(self) -> None:
        """Start from the first delay: a session was stable, or what was refused has changed."""
        self._failures = self._refusals = self._likely = 0
        self.believes_refusal = False

    def next(self, kind: EndKind, uptime: float) -> float:
        """Return the delay (seconds) after an end of this kind.

        Args:
            kind: how the session ended.
            uptime: seconds since the node had taken it; 0 where it never did.
        """
        times = self._timings
        if uptime >= times.stable_after:
            self.reset()
        elif uptime:
            self._failures = min(self._failures, SERVED_FAILURES)
        self._note_likely(kind)
        if kind is EndKind.RATE_LIMITED:
            return times.rate_limited_retry * random.uniform(1, 1.25)
        if kind in (EndKind.REFUSED, EndKind.WRONG_DIALECT) or self.believes_refusal:
            # A node whose verifier is out of reach looks like one that refuses: it is asked more often.
            first, longest = times.likely_refused_retry if self.believes_refusal else times.refused_retry
            bound = min(longest, first * 2 ** min(self._refusals, 16))
            self._refusals += 1
            return random.uniform(bound / 2, bound)
        bound = min(times.retry_longest, times.retry_first * 2 ** min(self._failures, 16))
        self._failures += 1
        return max(times.retry_least, random.uniform(0, bound))

    def _note_likely(self, kind: EndKind) -> None:
        now = self._clock()
        if kind is not EndKind.LIKELY_REFUSED:
            self._likely = 0
        else:
            if not self._likely:
                self._likely_since = now
            self._likely += 1
        lasting = now - self._likely_since >= self._timings.likely_after
        self.believes_refusal = self._likely >= BELIEVED_AFTER and lasting
