"""Limits of backends, tenants and the process: how many streams, how often, how many bytes.

Theory. Bytes are paid for by a token bucket. A message is carried first and paid for afterwards; until then its stream
asks for no more (a target is not read, a user gets no credits). Payments are made in the order in which they fell due,
so streams take turns, and none is ahead by more than what it had already been allowed to send. A stream that is over
owes that all the same: who made one short stream after another would be ahead without a bound, so new streams wait
until that is paid.
"""

from __future__ import annotations

import asyncio
import resource
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.config import Limits

BURST: Final = 0.1
"""Seconds' worth of bytes that may go at once."""

LEAST_BURST: Final = 64 * 1024
"""Bytes that may always go at once: two messages."""

OWED_SECONDS: Final = 10.0
"""Seconds' worth of bytes that streams which are over may owe before new ones are refused."""

LEAST_OWED: Final = 2 * 1024 * 1024
"""Bytes that they may always owe: what one user may have on the way (`relay.protocol.credits.CEILING`)."""

RESERVED_FILES: Final = 256
"""Open files that are not for streams: sessions, the database, a target that is being dialled twice. Half of them are
for sessions; where there are more of those, more is reserved."""


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

    def ready_in(self) -> float:
        """Return the seconds until there is a token, counted from the last `take`."""
        return max(0.0, -self._tokens / self.rate) if self.rate else 0.0

    def _refill(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now


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


class Allowance:
    """What one backend or one tenant may use, and what it uses.

    Args:
        owner: for messages: ``backend shop`` or ``tenant shop``.
    """

    def __init__(self, owner: str, limits: Limits) -> None:
        self.owner = owner
        self.streams = 0
        self.owed_upload = self.owed_download = 0
        """Bytes that streams which are over have not paid for yet."""
        self.upload, self.download = Pacer(), Pacer()
        self._loop = asyncio.get_running_loop()
        self._new = TokenBucket(0, 0, self._loop.time())
        self.limits = Limits()
        self.change(limits)

    def change(self, limits: Limits) -> bool:
        """Take other limits; live streams stay counted and go on. Say whether they differ."""
        if limits == self.limits:
            return False
        self.limits = limits
        self.upload.change(limits.upload_rate)
        self.download.change(limits.download_rate)
        self._new.change(limits.streams_per_second, max(1, limits.streams_per_second), self._loop.time())
        return True

    def refusal(self) -> str:
        """Ask for one new stream. Return why there is none; empty where it may come."""
        limits = self.limits
        if limits.max_streams and self.streams >= limits.max_streams:
            return f"{self.owner} has its {limits.max_streams} streams (max_streams)"
        if _is_too_much(self.owed_upload, limits.upload_rate):
            return f"{self.owner} has taken more from users than its {limits.upload_rate} bytes a second (upload_rate)"
        if _is_too_much(self.owed_download, limits.download_rate):
            return f"{self.owner} has sent users more than its {limits.download_rate} bytes a second (download_rate)"
        if limits.streams_per_second and not self._new.take(1, self._loop.time()):
            return f"{self.owner} has had its {limits.streams_per_second} new streams a second (streams_per_second)"
        return ""


def _is_too_much(owed: int, rate: int) -> bool:
    return bool(rate) and owed > max(LEAST_OWED, rate * OWED_SECONDS)


class Gate:
    """What a backend's streams pass: the allowances that they share, and the process's bounds.

    Args:
        allowances: the backend's, and its tenant's where it has one.
        process: returns why the process takes no new stream; empty where it does.

    Attributes:
        upload, download: whom bytes are paid to; None where no rate is limited.
    """

    def __init__(self, allowances: Sequence[Allowance], process: Callable[[], str]) -> None:
        self._allowances, self._process = allowances, process
        self.upload: Pacers | None = None
        self.download: Pacers | None = None
        self.changed()

    def changed(self) -> None:
        """The allowances' limits may have changed."""
        upload = [allowance.upload for allowance in self._allowances if allowance.limits.upload_rate]
        download = [allowance.download for allowance in self._allowances if allowance.limits.download_rate]
        self.upload = Pacers(upload) if upload else None
        self.download = Pacers(download) if download else None

    def refusal(self) -> str:
        """Ask for one new stream. Return why there is none; empty where it may come."""
        return self._process() or next(filter(None, (allowance.refusal() for allowance in self._allowances)), "")

    def enter(self) -> None:
        """Count a stream."""
        for allowance in self._allowances:
            allowance.streams += 1

    def leave(self) -> None:
        """Count a stream no more."""
        for allowance in self._allowances:
            allowance.streams -= 1

    def owe(self, upload: int, download: int) -> None:
        """Count bytes that a stream which is over has not paid for; less than none where it has now."""
        for allowance in self._allowances:
            allowance.owed_upload += upload
            allowance.owed_download += download


@dataclass(frozen=True, slots=True)
class ProcessBounds:
    """What a process holds at most. At a bound new streams are refused; live ones go on.

    Attributes:
        max_streams: streams that hold or dial a target; 0 for as many as there may be open files.
        max_buffered: bytes that wait for targets, over all sessions.
    """

    max_streams: int = 0
    max_buffered: int = 512 * 1024 * 1024

    def streams(self, sessions: int = 0) -> int:
        """Return ``max_streams``, or what the limit of open files leaves (`RESERVED_FILES`).

        Args:
            sessions: that there are; each has a file.
        """
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reserved = max(RESERVED_FILES, sessions + RESERVED_FILES // 2)
        possible = 2**31 if files == resource.RLIM_INFINITY else max(1, files - reserved)
        return min(self.max_streams, possible) if self.max_streams else possible
