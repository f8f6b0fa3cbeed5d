"""Whether a process has room for one more stream, and whose streams make way where it has not.

The last of a process's places are for tenants that hold less than an even share of them, and what waits for targets is
given up where most of it waits: neither lets one tenant keep the others from being served.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sized
from typing import Final, Protocol

from relay.limits.quota import ProcessBounds
from relay.timings import Timings

CROWDED: Final = 0.9
"""Part of the streams that a process may hold from which on tenants with more than an even share get no new ones."""


class HeldStream(Protocol):
    """A stream, as far as its room is concerned.

    Attributes:
        queued: bytes that wait for its target.
    """

    queued: int

    @property
    def tenant(self) -> str: ...
    def give_up(self) -> None:
        """End the stream, with what waits for its target."""


class Admission:
    """The room of one process.

    Args:
        live: its streams.
        sessions: its sessions.
        tenants: returns how many tenants it serves.
    """

    def __init__(
        self,
        bounds: ProcessBounds,
        live: Collection[HeldStream],
        sessions: Sized,
        tenants: Callable[[], int],
        timings: Timings = Timings(),
    ) -> None:
        self._bounds, self._live, self._sessions, self._tenants = bounds, live, sessions, tenants
        self._believed_for = timings.admission_look
        self._looked_at = -self._believed_for
        self._waiting = 0
        self._held: Counter[str] | None = None

    def refusal(self, tenant: str) -> str:
        """Say why the process takes no new stream of a tenant; empty where it does."""
        most = self._bounds.streams(len(self._sessions))
        if len(self._live) >= most:
            return f"this process holds {most} streams, as many as it may (max_streams, open files)"
        self._look()
        if len(self._live) >= most * CROWDED and self._has_more_than_its_share(tenant):
            return (
                f"this process may hold {most} streams (max_streams, open files), and the last of them are for tenants "
                "that have fewer"
            )
        if self._waiting > self._bounds.max_buffered and not self._make_way(tenant):
            return f"more than {self._bounds.max_buffered} bytes wait for targets in this process (max_buffered)"
        return ""

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= self._believed_for:
            self._looked_at, self._held = now, None
            self._waiting = sum(stream.queued for stream in self._live)

    def _has_more_than_its_share(self, tenant: str) -> bool:
        if self._held is None:
            self._held = Counter(stream.tenant for stream in self._live)
        return self._held[tenant] * self._tenants() > self._held.total()

    def _make_way(self, tenant: str) -> bool:
        """Give up streams of whom most waits for, where that is another tenant. Say whether there is room now."""
        waiting: Counter[str] = Counter()
        for stream in self._live:
            if stream.queued:
                waiting[stream.tenant] += stream.queued
        self._waiting = waiting.total()
        ((greatest, _),) = waiting.most_common(1) or [(tenant, 0)]
        if greatest != tenant:
            theirs = [stream for stream in self._live if stream.queued and stream.tenant == greatest]
            for stream in sorted(theirs, key=lambda stream: -stream.queued):
                if self._waiting <= self._bounds.max_buffered:
                    break
                self._waiting -= stream.queued
                stream.give_up()
        return self._waiting <= self._bounds.max_buffered
