"""What a session knows of one stream, whatever carries it to its user."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from relay.devnode.window import NodeReceiveWindow, NodeSendWindow

if TYPE_CHECKING:
    from relay.devnode.node import DevNode
    from relay.devnode.session import NodeSession


class NodeStream(ABC):
    """One user connection, flow or outbound connection, carried inside a session.

    Attributes:
        stream_id: 16 bytes.
        session: who carries it; None before it is routed.
        hostname: as in ``connect``.
        window: node → client credits.
    """

    def __init__(self, node: DevNode, stream_id: bytes | None = None) -> None:
        self.node = node
        self.stream_id = stream_id or uuid.uuid4().bytes
        self.session: NodeSession | None = None
        self.hostname = ""
        self.window = NodeSendWindow()
        self.paused = False
        self._receive_window = NodeReceiveWindow(node.options.credits, node.options.grant_batch)

    # -- what the session tells it

    def grant(self, credits: int) -> None:
        """The client grants ``credits`` messages."""
        self.window.grant(credits)
        self.window_changed()

    def pause(self, paused: bool) -> None:
        """The client wants the user read no more, or again."""
        self.paused = paused
        self.window_changed()

    @abstractmethod
    def deliver(self, payload: bytes) -> None:
        """Data came from the client."""

    @abstractmethod
    def finish(self) -> None:
        """The client has disconnected: flush what is queued for the user, then close."""

    @abstractmethod
    def cut(self) -> None:
        """The session is over."""

    @abstractmethod
    def window_changed(self) -> None:
        """Whether the user may be read may have changed."""

    # -- what the carriers share

    @property
    def readable(self) -> bool:
        """Whether the client takes data of this stream now."""
        return not self.paused and not self.window.exhausted

    def send(self, payload: bytes | bytearray | memoryview) -> bool:
        """Send a data message to the client; False when the lane was full and it is lost."""
        assert self.session is not None
        self.window.take()
        return self.session.send_data(self.stream_id, payload)

    def count_arrival(self) -> None:
        """Account for a data message from the client."""
        if not self._receive_window.arrived() and self.session is not None and self.session.attested:
            self.session.counters.sends_without_credit += 1

    def count_taken(self) -> None:
        """Account for a message that the user's socket took, and grant again where a batch is full."""
        credits = self._receive_window.taken()
        if credits and self.session is not None:
            self.session.send_grant(self.stream_id, credits)

    def leave(self, *, notify: bool, reason: str = "") -> None:
        """Take the stream out of its session, telling the client where ``notify``."""
        session = self.session
        if session is not None and session.forget(self.stream_id) and notify:
            session.send_disconnect(self.stream_id, reason)
