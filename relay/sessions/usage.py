"""What backends have carried: counted by stream and by session, never by message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.protocol.counters import Counters


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


class Usage:
    """What one backend has carried.

    Attributes:
        live: streams that hold or dial a target now.
    """

    def __init__(self) -> None:
        self.streams = self.refused = self.live = 0
        self._peak = 0
        self._bytes_received = self._bytes_sent = 0
        self._sessions: dict[int, Counters] = {}

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

    def __iter__(self) -> Iterator[tuple[str, Usage]]:
        return iter(list(self._usages.items()))

    def forget(self, key: str) -> None:
        """Forget a backend that nothing holds any more; its next session begins a new count."""
        usage = self._usages.get(key)
        if usage is not None and usage.idle:
            del self._usages[key]
