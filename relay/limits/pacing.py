"""Pacing of bytes: the streams of a backend or tenant pay for what they carry, in turn.

Theory. Bytes are paid for by a token bucket. A message is carried first and paid for afterwards; until then its stream
asks for no more (a target is not read, a user gets no credits). Payments are made in the order in which they fell due,
so streams take turns, and none is ahead by more than what it had already been allowed to send. A stream that is over
owes that all the same: a user who made one short stream after another would be ahead without a bound, so new streams
wait until that is paid (`relay.limits.quota`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from relay.limits.rate_limit import TokenBucket

BURST: Final = 0.1
"""Seconds' worth of bytes that may go at once."""

LEAST_BURST: Final = 64 * 1024
"""Bytes that may always go at once: two messages."""


class Pacer:
    """Makes the streams of one direction pay for their bytes, in turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(0, 0, self._loop.time())
        self._due: deque[tuple[int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def change(self, rate: float) -> None:
        """Take another rate, at once also for those who wait."""
        if rate != self._bucket.rate:
            self._bucket.change(rate, max(LEAST_BURST, rate * BURST), self._loop.time())
            if self._timer is not None:
                self._timer.cancel()
            self._settle()

    def pay(self, size: int, paid: Callable[[], None]) -> bool:
        """Pay for ``size`` bytes. True where that is done at once; else ``paid`` is called when it is."""
        if not self._due and self._bucket.take(size, self._loop.time()):
            return True
        self._due.append((size, paid))
        if len(self._due) == 1:
            self._wait()
        return False

    def pay_now(self, size: int) -> bool:
        """Pay for ``size`` bytes where that can be done at once."""
        return not self._due and self._bucket.take(size, self._loop.time())

    def _settle(self) -> None:
        self._timer = None
        while self._due and self._bucket.take(self._due[0][0], self._loop.time()):
            self._due.popleft()[1]()
        if self._due and self._timer is None:
            self._wait()

    def _wait(self) -> None:
        # A little late rather than too early: a timer that fires before its time would only be set again.
        self._timer = self._loop.call_later(self._bucket.ready_in() + 0.001, self._settle)


class Pacers:
    """The pacers that one stream has to pay, one after the other: its backend's and its tenant's."""

    def __init__(self, pacers: Sequence[Pacer]) -> None:
        self._pacers = pacers

    def pay(self, size: int, paid: Callable[[], None], first: int = 0) -> bool:
        """Do as `Pacer.pay` does, with all of them."""
        for index in range(first, len(self._pacers)):

            def go_on(following: int = index + 1) -> None:
                if self.pay(size, paid, following):
                    paid()

            if not self._pacers[index].pay(size, go_on):
                return False
        return True

    def pay_now(self, size: int) -> bool:
        """Do as `Pacer.pay_now` does, with all of them."""
        return all(pacer.pay_now(size) for pacer in self._pacers)
