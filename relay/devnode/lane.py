"""The one queue through which data, ``connect`` and ``disconnect`` messages of a session leave the node.

It is drained only as fast as the client's socket takes messages; what finds it full is dropped
(docs/protocol.md, "Flow control").
"""

from __future__ import annotations

from collections import deque


class Lane:
    """A queue of at most ``size`` messages that never waits."""

    __slots__ = ("_messages", "peak", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.peak = 0
        """The most messages that ever stood in it."""
        self._messages: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def offer(self, message: bytes) -> bool:
        """Queue ``message``; False when the lane is full and the message is lost."""
        waiting = len(self._messages)
        if waiting >= self.size:
            return False
        self._messages.append(message)
        if waiting >= self.peak:
            self.peak = waiting + 1
        return True

    def take(self) -> bytes | None:
        """Return the oldest message, None when there is none."""
        return self._messages.popleft() if self._messages else None

    def clear(self) -> None:
        """Forget what waits: the session is over."""
        self._messages.clear()
