"""What a connection to a node tells, and whom."""

from __future__ import annotations

from typing import Protocol

from relay.transport.frames import Buffer


class Receiver(Protocol):
    """Who is told what happens on a connection."""

    def text_received(self, text: str) -> None: ...
    def binary_received(self, message: Buffer) -> bool:
        """Take a message. It is valid until `batch_received` returns. Say whether that is enough for this turn."""

    def late_received(self, message: Buffer) -> None:
        """Take note of a message that was on its way when our Close left: it is too late for it."""

    def batch_received(self) -> None:
        """All that one read of the socket brought has been handed on."""

    def writing_resumed(self) -> None: ...
    def connection_ended(self, code: int, reason: str, error: Exception | None) -> None:
        """Called once, as the last; ``code`` 1006 where the node sent no Close."""
