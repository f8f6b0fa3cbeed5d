"""How many messages a node may send us: one budget for a session, a window for each stream.

Theory. All that a node sends to a session leaves it through one lane of 256 messages; a message that finds it full is
dropped and its user's connection killed (docs/protocol.md, "Flow control"). What can be in the lane is bounded by the
sum of the windows that the client has opened. So a session has one `GrantBudget`, well below 256, that its active
streams share: few streams get wide windows (speed over long round trips), many get narrow ones. A stream that has
been quiet for a while does not count: it lends its part to the others until it speaks again.

A stream's window is everything that was granted and has not been granted again::

    window = credits the node still holds + messages on their way or queued here + consumed, not yet returned

Consumed messages are returned in batches of half a window. A window is never below 2 and a batch never above half of
it, so at least one credit is always at the node or on its way: no window can stall.
"""

from __future__ import annotations

from typing import Final

LANE_MESSAGES: Final = 256
"""Length of the node's shared lane."""

BUDGET: Final = 128
"""Sum of the windows of the active streams of a session, as long as each has its floor.

Half of the lane: what users send before a first grant arrives comes on top, and so do idle streams that wake."""

FLOOR: Final = 2
"""Smallest window of a stream."""

CEILING: Final = 64
"""Largest window of a stream; the node's semaphore loses grants beyond it."""

FIRST: Final = 16
"""Largest window that a stream is opened with; it grows from there while the budget allows."""


class ReceiveWindow:
    """What one stream may still be sent (messages)."""

    __slots__ = ("active", "consumed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.consumed = 0
        self.active = True


class GrantBudget:
    """Shares a session's budget among the windows of its streams."""

    def __init__(self, total: int = BUDGET) -> None:
        if not FLOOR <= total < LANE_MESSAGES:
            raise ValueError(f"a session's credit budget is {FLOOR} to {LANE_MESSAGES - 1} messages, not {total}")
        self.total = total
        self.open = 0
        """Messages: the windows of the active streams, summed."""
        self._active = 0

    def add(self) -> ReceiveWindow:
        """Open the window of a new stream; its size is the first grant."""
        window = ReceiveWindow(max(FLOOR, min(FIRST, (self.total - self.open) // 4)))
        self._active += 1
        self.open += window.size
        return window

    def consume(self, window: ReceiveWindow, messages: int = 1) -> int:
        """Note that ``messages`` were handed to the target. Return the grant that is due now, or 0."""
        window.consumed += messages
        if not window.active:
            window.active = True
            self._active += 1
            self.open += window.size
        if window.consumed * 2 < window.size:
            return 0
        share = max(FLOOR, min(CEILING, self.total // self._active))
        if share > window.size:
            size = window.size + max(0, min(share - window.size, self.total - self.open))
        else:
            # Narrowing withholds what was consumed; credits that are out cannot be taken back.
            size = max(share, window.size - window.consumed)
        grant = window.consumed + size - window.size
        self.open += size - window.size
        window.size, window.consumed = size, 0
        return grant

    def rest(self, window: ReceiveWindow) -> None:
        """Take a quiet or finished stream's window out of the sharing, until it consumes again."""
        if window.active:
            window.active = False
            self._active -= 1
            self.open -= window.size
