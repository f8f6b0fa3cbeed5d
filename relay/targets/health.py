"""TCP health checks of targets: one for each target and its settings in a tenant."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from relay.config.port_options import TargetHealth
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target
from relay.logs import Once, get_logger
from relay.targets.dialing import Dialer, words_of

AT_ONCE: Final = 32
"""Checks of one tenant that are under way at a time."""

A_SECOND: Final = 200
"""Checks of one tenant that begin in a second; those of more targets come later than their interval says."""

JITTER: Final = 0.1
"""Part of the interval by which checks come early or late, so that they do not fall into step."""

Check = tuple[Target, TargetHealth, tuple[TargetPolicy, ...]]
"""What is checked, how, and what must permit it: backends with different policies share no check."""

_log = get_logger("relay.targets.health")


class Verdict:
    """Whether a target is up, from the outcomes of its checks. It is, until it has failed often enough.

    A success resets the count of failures, and the reverse.
    """

    def __init__(self, settings: TargetHealth) -> None:
        self.up = True
        self._settings = settings
        self._contrary = 0  # outcomes in a row that speak against `up`

    def note(self, success: bool) -> bool:
        """Take an outcome. Say whether it changed the verdict."""
        if success is self.up:
            self._contrary = 0
            return False
        self._contrary += 1
        if self._contrary < (self._settings.down_after if self.up else self._settings.up_after):
            return False
        self.up = not self.up
        self._contrary = 0
        return True


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """What the checks of a target say, for status pages and tests.

    Attributes:
        target: as text.
        interval: seconds between two checks; a target that is checked in two ways has two of these.
        up: streams are sent there.
        problem: why the last check failed; empty where it did not, and before the first.
        since: when ``up`` changed last, in seconds since the epoch; None where it never did.
    """

    target: str
    interval: float
    up: bool
    problem: str
    since: float | None


class _Checker:
    """Checks one target until it is stopped.

    Args:
        pause: returns the seconds between two checks.
        tell: is told of a new verdict, as True for up, and why it is down.
    """

    def __init__(
        self,
        check: Check,
        dialer: Dialer,
        slots: asyncio.Semaphore,
        pause: Callable[[], float],
        tell: Callable[[Target, bool, str], None],
    ) -> None:
        self.target, self.settings, self._policies = check
        self.verdict = Verdict(self.settings)
        self.problem = ""
        self.since: float | None = None
        self._dialer = dialer
        self._slots = slots
        self._pause = pause
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        # The first ones are spread as well: thousands may begin in one instant.
        self._timer = self._loop.call_later(random.uniform(0, pause()), self._due)

    def stop(self) -> None:
        self._stopped = True  # a check that has ended just now, but has not been noted, is followed by none
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _due(self) -> None:
        self._task = self._loop.create_task(self._check())
        self._task.add_done_callback(self._checked)

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("a target's check broke", target=str(self.target), exc_info=error)
        if self._stopped:
            return
        self._timer = self._loop.call_later(self._pause() * random.uniform(1 - JITTER, 1 + JITTER), self._due)

    async def _check(self) -> None:
        async with self._slots:
            try:
                await self._dialer.probe(self.target, self.settings.timeout, self._policies)
                self.problem = ""
            except OSError as error:
                self.problem = words_of(error)
        if not self.verdict.note(not self.problem):
            return
        self.since = time.time()
        self._tell(self.target, self.verdict.up, self.problem)


class HealthChecks:
    """The checks of all targets of one tenant in a process.

    Backends say what they want checked with `follow`; what several want is checked once, and what none wants
    any more is not checked.

    Args:
        tenant: for the log.
    """

    def __init__(self, dialer: Dialer, tenant: str = "") -> None:
        self._dialer = dialer
        self._tenant = tenant
        self._once = Once()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._checkers: dict[Check, _Checker] = {}
        self._number = 0
        self._wanted: dict[str, frozenset[Check]] = {}  # by backend
        self._users: dict[Check, int] = {}

    def follow(self, backend: str, checks: Iterable[Check]) -> None:
        """Check these targets for the backend with this key, and no longer others that it named before."""
        wanted, before = frozenset(checks), self._wanted.get(backend, frozenset())
        for check in wanted - before:
            self._users[check] = self._users.get(check, 0) + 1
        self._number = len(self._users)  # before the first of them is begun
        for check in wanted - before:
            if check not in self._checkers:
                pause = partial(self._pause, check[1].interval)
                self._checkers[check] = _Checker(check, self._dialer, self._slots, pause, self._tell)
        for check in before - wanted:
            self._users[check] -= 1
            if not self._users[check]:
                del self._users[check]
                self._checkers.pop(check).stop()
        self._number = len(self._users)
        if wanted:
            self._wanted[backend] = wanted
        else:
            self._wanted.pop(backend, None)

    def _pause(self, interval: float) -> float:
        return max(interval, self._number / A_SECOND)

    def _tell(self, target: Target, up: bool, problem: str) -> None:
        # Thousands of targets may come and go with every check, and their owner may want that.
        if not self._once.allows((target, up), group=self._tenant):
            return
        fields = {"target": str(target), "tenant": self._tenant or None}
        if up:
            _log.info("target up", **fields)
        else:
            _log.warning(f"target down: {problem}", **fields)

    def is_up(self, target: Target, settings: TargetHealth, policies: tuple[TargetPolicy, ...] = ()) -> bool:
        """Say whether streams may be sent there: always, where the target is not checked."""
        checker = self._checkers.get((target, settings, policies))
        return checker is None or checker.verdict.up

    def statuses(self, backend: str | None = None) -> list[TargetStatus]:
        """Return what is known of every target that is checked, or of those of one backend (by its key)."""
        checks = self._checkers.keys() if backend is None else self._wanted.get(backend, frozenset())
        checkers = (self._checkers[check] for check in checks)
        found = [
            TargetStatus(str(each.target), each.settings.interval, each.verdict.up, each.problem, each.since)
            for each in checkers
        ]
        return sorted(found, key=lambda status: (status.target, status.interval))
