"""What backends have carried: counted by stream and by session, never by message."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from relay.protocol.counters import Counters
from relay.sessions.totals import Totals

MOST_FAILED: Final = 20
"""Routes of one backend whose last dial failed and of which that is remembered."""


class UsageTotals(NamedTuple):
    """What a backend has carried since its first session; it only ever grows.

    Attributes:
        streams: that got a target.
        refused: users that were turned away.
        bytes_received: from users.
        bytes_sent: to users.
    """

    streams: int = 0
    refused: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class SessionTotals(NamedTuple):
    """What became of a backend's sessions since the relay began to serve it.

    Attributes:
        connects: sessions that a node took.
        reconnects: those among them that came after one that was lost.
        last_connected: when the newest was taken, in seconds since the epoch; None before the first.
        errors: by kind: sessions that were lost and attempts that failed (`relay.protocol.events.EndKind`), and what
            streams met (`relay.sessions.totals.Totals`).
    """

    connects: int
    reconnects: int
    last_connected: float | None
    errors: Mapping[str, int]


class SessionBook:
    """Counts a backend's sessions."""

    def __init__(self) -> None:
        self._connects = self._reconnects = 0
        self._last_connected: float | None = None
        self._errors: Counter[str] = Counter()

    def connected(self, *, again: bool) -> None:
        """A node has taken a session; ``again``: after one that was lost."""
        self._connects += 1
        self._reconnects += again
        self._last_connected = time.time()

    def failed(self, kind: str) -> None:
        """A session was lost, or an attempt failed."""
        self._errors[kind] += 1

    def ended(self, totals: Totals) -> None:
        """A session is over, with what its streams have met."""
        self._errors += totals.errors()

    def totals(self, live: Iterable[Totals] = ()) -> SessionTotals:
        """Return the counts, with those of sessions that live."""
        errors = sum((totals.errors() for totals in live), self._errors)
        return SessionTotals(self._connects, self._reconnects, self._last_connected, dict(errors))


class FailedDial(NamedTuple):
    """Targets of a route that the last user's dial did not reach.

    Attributes:
        problem: in the words of the log.
        since: of the first dial in a row that failed, in seconds since the epoch.
        last: of the last.
    """

    problem: str
    since: float
    last: float


class Usage:
    """What one backend has carried.

    Attributes:
        live: streams that hold or dial a target now.
        failed: by the text of a route's targets, those that the last dial did not reach; `MOST_FAILED` at most.
    """

    def __init__(self) -> None:
        self.streams = self.refused = self.live = 0
        self._peak = 0
        self._bytes_received = self._bytes_sent = 0
        self._sessions: dict[int, Counters] = {}
        self.failed: dict[str, FailedDial] = {}

    # -- what sessions say

    def session_begun(self, counters: Counters) -> None:
        """Count what a session counts, from now on."""
        self._sessions[id(counters)] = counters

    def session_ended(self, counters: Counters) -> None:
        """Keep what a session has counted."""
        if self._sessions.pop(id(counters), None) is not None:
            self.refused += counters.streams_refused
            self._bytes_received += counters.bytes_received
            self._bytes_sent += counters.bytes_sent

    def entered(self) -> None:
        """A stream will have a target."""
        self.live += 1
        self._peak = max(self._peak, self.live)

    def left(self) -> None:
        """Nothing is left of a stream's target."""
        self.live -= 1

    def missed(self, targets: str, problem: str) -> None:
        """A dial of these targets has failed."""
        now, before = time.time(), self.failed.get(targets)
        if before is None and len(self.failed) >= MOST_FAILED:
            del self.failed[next(iter(self.failed))]
        self.failed[targets] = FailedDial(problem, now if before is None else before.since, now)

    def reached(self, targets: str) -> None:
        """One of these targets was reached."""
        if self.failed:
            self.failed.pop(targets, None)

    # -- what is read

    @property
    def idle(self) -> bool:
        """No session and no stream holds it."""
        return not self._sessions and not self.live

    def totals(self) -> UsageTotals:
        """Return what was carried so far."""
        refused, received, sent = self.refused, self._bytes_received, self._bytes_sent
        for counters in self._sessions.values():
            refused += counters.streams_refused  # by the protocol's core, before anybody else saw them
            received += counters.bytes_received
            sent += counters.bytes_sent
        return UsageTotals(self.streams, refused, received, sent)

    def take_peak(self) -> int:
        """Return the most streams that lived at a time since this was asked last."""
        peak, self._peak = max(self._peak, self.live), self.live
        return peak


class UsageBook:
    """The usage of all backends of a relay, by `BackendConfig.key`. It outlives them until it is told to forget."""

    def __init__(self) -> None:
        self._usages: dict[str, Usage] = {}

    def of(self, key: str) -> Usage:
        """Return a backend's usage."""
        usage = self._usages.get(key)
        if usage is None:
            usage = self._usages[key] = Usage()
        return usage

    def failed_dials(self, key: str, after: float) -> dict[str, FailedDial]:
        """Return a backend's routes whose last dial failed, if not before ``after`` (seconds since the epoch)."""
        usage = self._usages.get(key)
        if usage is None or not usage.failed:
            return {}
        usage.failed = {text: dial for text, dial in usage.failed.items() if dial.last >= after}
        return usage.failed

    def __iter__(self) -> Iterator[tuple[str, Usage]]:
        return iter(list(self._usages.items()))

    def forget(self, key: str) -> None:
        """Forget a backend that nothing holds any more; its next session begins a new count."""
        usage = self._usages.get(key)
        if usage is not None and usage.idle:
            del self._usages[key]
