"""Whether a node is alive: when to ask it for a sign of life, and when to give it up; no clock, no I/O of its own."""

from __future__ import annotations

import math

from relay.timings import Timings


class Liveness:
    """What was heard of a node and what it took, by the loop's clock.

    Args:
        now: the loop's time.

    Attributes:
        heard_at: when something came last.
        asked_at: when it was asked last.
    """

    def __init__(self, timings: Timings, now: float) -> None:
        self._timings = timings
        self.heard_at = self.asked_at = self._checked_at = now
        self._slept_until = -math.inf
        self._progress = (0, now)

    def problem(self, now: float, written: int, unsent: int) -> str:
        """Say why the node is to be given up; empty where it is not.

        Args:
            written: bytes that it was sent so far.
            unsent: those of them that still wait for the socket.
        """
        dead_after = self._timings.dead_after
        if now - self._checked_at > dead_after / 2:
            # This process slept (a laptop's lid, a stopped container): what came meanwhile is still to be read.
            self._slept_until = now
            self._progress = (self._progress[0], now)
        self._checked_at = now
        taken = written - unsent
        if taken != self._progress[0] or not unsent:
            self._progress = (taken, now)
        elif now - self._progress[1] >= dead_after:
            return f"node took nothing of a write for {dead_after:.0f} s"
        if now - max(self.heard_at, self._slept_until) >= dead_after:
            return f"no frame and no pong from the node for {dead_after:.0f} s"
        return ""

    def is_due(self, now: float) -> bool:
        """Say whether it is time to ask again."""
        return now - self.asked_at >= self._timings.ping_interval
