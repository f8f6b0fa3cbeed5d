"""One stream, as far as the protocol knows it."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from relay.protocol.credits import ReceiveWindow
from relay.protocol.messages import Connect
from relay.protocol.states import Transitions, advance


class StreamLife(Enum):
    """Whether a stream carries data."""

    DIALLING = "dialling"
    """An outbound stream whose ``outbound_result`` has not come."""
    OPEN = "open"
    OVER = "over"


class StreamEvent(Enum):
    """What changes it."""

    DIALLED = "the node has dialled"
    ENDED = "one side has ended it"


STREAM_LIFE: Final[Transitions[StreamLife, StreamEvent]] = {
    StreamLife.DIALLING: {StreamEvent.DIALLED: StreamLife.OPEN, StreamEvent.ENDED: StreamLife.OVER},
    StreamLife.OPEN: {StreamEvent.ENDED: StreamLife.OVER},
    StreamLife.OVER: {},
}

_OPEN: Final = StreamLife.OPEN  # asked for each message: an attribute of an Enum costs more than a name


class StreamState:
    """What the protocol knows of one stream.

    Attributes:
        request: how the node announced it; None for an outbound stream.
        send_credits: data messages that we may still send; None where the node sets no limit.
        opened_at: when it was announced, or asked for.
        life: where it is in its life; see `STREAM_LIFE`.
        overdue: its pong is, and the node has said nothing since.
        bytes_received, bytes_sent: of its data messages.
        context: the shell's own.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "context",
        "id",
        "last_activity",
        "last_received",
        "life",
        "opened_at",
        "overdue",
        "pinged_at",
        "request",
        "send_credits",
        "window",
    )

    def __init__(self, stream_id: bytes, request: Connect | None, window: ReceiveWindow | None, now: float) -> None:
        self.id = stream_id
        self.request = request
        self.send_credits: int | None = request.credits if request else None
        self.window = window
        self.opened_at = now
        self.bytes_received = self.bytes_sent = 0
        self.last_activity = now
        self.last_received = now
        self.pinged_at: float | None = None
        self.overdue = False
        self.life = StreamLife.DIALLING if request is None else StreamLife.OPEN
        self.context: Any = None

    def can_send(self) -> bool:
        """Say whether the node takes another data message of the stream now."""
        return self.send_credits != 0 and self.life is _OPEN

    def advance(self, step: StreamEvent) -> None:
        """Take a step of `STREAM_LIFE`."""
        self.life = advance(STREAM_LIFE, self.life, step)
