"""The node's two counters of credits for one stream (docs/protocol.md, "Flow control")."""

from __future__ import annotations

SEMAPHORE = 64
"""Credits that the node's semaphore holds at least."""


class NodeSendWindow:
    """Node → client: no limit until the client's first grant, then what it granted.

    The semaphore holds max(64, first grant); what is granted beyond that is lost.
    """

    __slots__ = ("available", "capacity", "limited", "lost")

    def __init__(self) -> None:
        self.limited = False
        self.capacity = 0
        self.available = 0
        self.lost = 0

    def grant(self, credits: int) -> None:
        """Take ``credits`` (messages) from the client."""
        if not self.limited:
            self.limited = True
            self.capacity = max(SEMAPHORE, credits)
        total = self.available + credits
        self.available = min(self.capacity, total)
        self.lost += total - self.available

    def take(self) -> None:
        """Spend one credit; the caller has looked at `exhausted`."""
        if self.limited:
            self.available -= 1

    @property
    def exhausted(self) -> bool:
        """Whether nothing may be sent."""
        return self.limited and self.available <= 0


class NodeReceiveWindow:
    """Client → node: what was granted, and what is due to be granted again, ``batch`` messages at a time."""

    __slots__ = ("_batch", "_taken", "allowance")

    def __init__(self, credits: int, batch: int) -> None:
        self.allowance = credits
        """Messages that the client may still send; below 0 it has over-sent."""
        self._batch = batch
        self._taken = 0

    def arrived(self) -> bool:
        """Count a message from the client; False when it had no credit for it."""
        self.allowance -= 1
        return self.allowance >= 0

    def taken(self) -> int:
        """Count a message that the user's socket has taken; return the credits to grant now, mostly 0."""
        self._taken += 1
        if self._taken < self._batch:
            return 0
        self._taken = 0
        self.allowance += self._batch
        return self._batch
