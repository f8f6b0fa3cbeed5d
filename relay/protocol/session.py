"""One session as a state machine: messages and the time in, events and messages out. No I/O, no clock, no exceptions.

States (docs/protocol.md, "Session"; the table: `relay.protocol.handshake`)::

    token dialect      START ──token──▶ OPEN
    attested dialect   START ──token──▶ AWAITING_CHALLENGE ──challenge──▶ ATTESTING ──token──▶ OPEN

`OPEN` means that the client has said all that it has to: both dialects accept by silence. Whether the node took it
shows by its first binary frame, or by the session still being there a little later; that is the shell's to time.

The shell feeds `receive_text`, `receive_binary` and `tick`, acts on the events that they return, and after each call
sends what `outgoing` gives, in order. Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

from relay.protocol import frames, messages
from relay.protocol.counters import Counters
from relay.protocol.credits import GrantBudget
from relay.protocol.events import (
    EndKind,
    Event,
    OutboundFailed,
    SessionFailed,
    Stage,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamWritable,
    TokenNeeded,
)
from relay.protocol.handshake import HANDSHAKE, Dialect, HandshakeEvent, HandshakeState
from relay.protocol.messages import Reason
from relay.protocol.states import advance
from relay.protocol.stream import StreamEvent, StreamLife, StreamState
from relay.protocol.times import HealthTimes, ProtocolTimes

REMEMBERED_STREAMS: Final = 4096
"""Ids of finished streams that are kept, so that what arrives late for them is not answered."""

MAX_MALFORMED: Final = 1000
"""Malformed and unknown messages between two ticks (about a second) above which the session is given up."""

MAX_STREAMS: Final = 16384
"""Live streams of one session; more are refused."""

_OPEN: Final = HandshakeState.OPEN  # asked for each message: an attribute of an Enum costs more than a name


class SessionCore:
    """The protocol of one session.

    Args:
        dialect: which handshake to make.
        health: when to probe idle streams.
    """

    def __init__(
        self, dialect: Dialect, *, health: HealthTimes | None = None, times: ProtocolTimes = ProtocolTimes()
    ) -> None:
        self.dialect = dialect
        self.state = HandshakeState.START
        self._times = times
        self.health = health or HealthTimes(inactivity=0)
        self.counters = Counters()
        self.streams: dict[bytes, StreamState] = {}
        self.confirmed = False
        """The node has sent a binary frame since the handshake: it has certainly accepted us."""
        self._budget = GrantBudget()
        # The first key of a dict is slow to find once others before it are gone.
        self._finished: OrderedDict[bytes, None] = OrderedDict()
        self._outgoing: deque[str | bytes | memoryview] = deque()
        self._wanted: tuple[Stage, str] | None = None
        self._challenge_due: float | None = None
        self._pong_seen = False
        self.wants_answer = False
        """Streams cannot be judged before the node says something."""
        self._malformed_before = 0
        self._control: dict[type, Callable[[Any, float], list[Event]]] = {
            messages.Connect: self._on_connect,
            messages.Disconnect: self._on_disconnect,
            messages.PongClient: self._on_pong,
            messages.ResumeStream: self._on_resume,
            messages.OutboundResult: self._on_outbound_result,
            messages.TooLong: self._on_too_long,
        }

    # -- handshake ---------------------------------------------------------------------------------------------

    def start(self) -> list[Event]:
        """Begin: ask for the first token."""
        return self._want_token(Stage.HANDSHAKE, "")

    def send_token(self, stage: Stage, nonce: str, token: str, now: float) -> None:
        """Answer a `TokenNeeded`. A token that is no longer wanted (a newer challenge came) is dropped."""
        if self._wanted != (stage, nonce) or self.state is HandshakeState.FAILED:
            return
        self._wanted = None
        self._outgoing.append(token)
        if stage is Stage.REAUTH:
            self.counters.reauths += 1
        elif stage is Stage.HANDSHAKE and self.dialect is Dialect.ATTESTED:
            self._advance(HandshakeEvent.CLAIMED)
            self._challenge_due = now + self._times.challenge_timeout
        else:
            self._advance(HandshakeEvent.PROVED)

    def receive_text(self, text: str, now: float) -> list[Event]:
        """Take a text frame of the node: a challenge."""
        if self.state is HandshakeState.FAILED:
            return []
        challenge = messages.parse_challenge(text)
        if isinstance(challenge, messages.Malformed):
            self.counters.malformed += 1
            if self.state is HandshakeState.AWAITING_CHALLENGE:
                return self._fail(EndKind.LOST, f"node sent no proper challenge: {challenge.problem}")
            return []
        if isinstance(challenge, messages.Unknown):
            self.counters.unknown_events += 1
            return []
        if self.dialect is Dialect.TOKEN:
            return self._fail(
                EndKind.WRONG_DIALECT,
                "node demands attestation: give this backend an HMAC secret or a command instead of a pre-signed token",
            )
        if challenge.type == messages.REAUTH_CHALLENGE:
            return (
                self._want_token(Stage.REAUTH, challenge.nonce)
                if self.state is HandshakeState.OPEN
                else self._misplaced()
            )
        if self.state is not HandshakeState.AWAITING_CHALLENGE:
            return self._misplaced()
        self._advance(HandshakeEvent.CHALLENGED)
        self._challenge_due = None
        return self._want_token(Stage.ATTEST, challenge.nonce)

    def _want_token(self, stage: Stage, nonce: str) -> list[Event]:
        self._wanted = (stage, nonce)
        return [TokenNeeded(stage, nonce)]

    def _misplaced(self) -> list[Event]:
        self.counters.malformed += 1
        return []

    def _fail(self, kind: EndKind, problem: str) -> list[Event]:
        self._advance(HandshakeEvent.FAILED)
        return [SessionFailed(kind, problem)]

    def _advance(self, event: HandshakeEvent) -> None:
        self.state = advance(HANDSHAKE, self.state, event)

    # -- receiving ---------------------------------------------------------------------------------------------

    def receive_binary(self, message: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take a binary frame of the node."""
        if self.state is not _OPEN:
            return self._early_binary(message)
        self.confirmed = True
        kind = message[0] if message else None
        if kind == frames.DATA:
            return self._on_data(message, now)
        if kind != frames.CONTROL:
            self.counters.malformed += 1
            return []
        control = messages.parse_control(message[1:])
        handler = self._control.get(type(control))
        if handler is not None:
            return handler(control, now)
        if isinstance(control, messages.Malformed):
            self.counters.malformed += 1
        else:
            self.counters.unknown_events += 1
        return []

    def is_connect(self, message: bytes | bytearray | memoryview) -> bool:
        """Say whether a message announces a user; nothing is made of it."""
        control = len(message) > 0 and message[0] == frames.CONTROL
        return control and isinstance(messages.parse_control(message[1:]), messages.Connect)

    def _early_binary(self, message: bytes | bytearray | memoryview) -> list[Event]:
        if self.state is HandshakeState.AWAITING_CHALLENGE and message[:1] in (b"\x01", b"\x02"):
            return self._fail(
                EndKind.WRONG_DIALECT,
                "node accepted the handshake token without a challenge: it is older than attestation, "
                "give this backend a pre-signed token",
            )
        return self._misplaced()

    def _on_data(self, message: bytes | bytearray | memoryview, now: float) -> list[Event]:
        size = len(message) - frames.DATA_HEADER_LENGTH
        if size < 0:
            self.counters.malformed += 1
            return []
        stream_id = bytes(message[1 : frames.DATA_HEADER_LENGTH])
        stream = self.streams.get(stream_id)
        if stream is None:
            self._unknown_stream(stream_id)
            return []
        stream.last_activity = stream.last_received = now
        counters = self.counters
        counters.data_received += 1
        counters.bytes_received += size
        stream.bytes_received += size
        return [StreamData(stream, memoryview(message)[frames.DATA_HEADER_LENGTH :])]

    def _unknown_stream(self, stream_id: bytes) -> None:
        if stream_id in self._finished:
            return
        self.counters.unknown_streams += 1
        self._remember(stream_id)
        self._send_control(messages.Disconnect(stream_id, Reason.UNKNOWN))

    def _on_connect(self, request: messages.Connect, now: float) -> list[Event]:
        stream_id = request.stream_id
        if stream_id in self.streams:
            return self._misplaced()
        if len(self.streams) >= MAX_STREAMS:
            self.counters.streams_refused += 1
            self._remember(stream_id)
            self._send_control(messages.Disconnect(stream_id, Reason.BUFFER_FULL))
            return []
        # Where the node grants credits, it also waits for ours. Until our first grant arrives the user's data is
        # unlimited, so that grant goes out before anything else is done with the stream.
        window = self._budget.add() if request.credits is not None else None
        if window is not None:
            self._send_control(messages.ResumeStream(stream_id, window.size))
        stream = StreamState(stream_id, request, window, now)
        self.streams[stream_id] = stream
        self.counters.streams_opened += 1
        return [StreamOpened(stream)]

    def _on_too_long(self, message: messages.TooLong, now: float) -> list[Event]:
        # Not the node's fault: strangers choose the names, and must not end the session by them.
        if message.stream_id in self.streams:
            return self._misplaced()
        self.counters.streams_refused += 1
        self._remember(message.stream_id)
        self._send_control(messages.Disconnect(message.stream_id, Reason.DIAL_FAILED))
        return []

    def _on_disconnect(self, message: messages.Disconnect, now: float) -> list[Event]:
        stream = self.streams.get(message.stream_id)
        if stream is None:
            return []
        was_dialling = stream.life is StreamLife.DIALLING
        self._forget(stream)
        # The node has let go of it already; the reference confirms all the same (wire/*.jsonl).
        self._send_control(messages.Disconnect(stream.id, Reason.NORMAL))
        if was_dialling:
            return [OutboundFailed(stream, message.reason or Reason.NORMAL)]
        return [StreamEnded(stream, message.reason or Reason.NORMAL)]

    def _on_pong(self, message: messages.PongClient, now: float) -> list[Event]:
        stream = self.streams.get(message.stream_id)
        if stream is not None and stream.pinged_at is not None:
            self._pong_seen = True
            stream.pinged_at = None
            stream.last_activity = now
        return []

    def _on_resume(self, message: messages.ResumeStream, now: float) -> list[Event]:
        stream = self.streams.get(message.stream_id)
        if stream is None or stream.send_credits is None or not message.credits:
            return []
        was_empty = stream.send_credits == 0
        stream.send_credits = min(stream.send_credits + message.credits, messages.MAX_GRANT)
        return [StreamWritable(stream)] if was_empty else []

    def _on_outbound_result(self, message: messages.OutboundResult, now: float) -> list[Event]:
        stream = self.streams.get(message.stream_id)
        if stream is None or stream.life is not StreamLife.DIALLING:
            return []
        if not message.success:
            self._forget(stream)
            self._send_control(messages.Disconnect(stream.id, Reason.DIAL_FAILED))
            return [OutboundFailed(stream, message.reason)]
        stream.advance(StreamEvent.DIALLED)
        stream.send_credits = message.credits
        stream.window = self._budget.add()
        stream.last_activity = stream.last_received = now
        self._send_control(messages.ResumeStream(stream.id, stream.window.size))
        return [StreamOpened(stream)]

    # -- sending -----------------------------------------------------------------------------------------------

    def open_outbound(self, stream_id: bytes, target_addr: str, now: float) -> StreamState:
        """Ask the node to dial ``target_addr``; `StreamOpened` or `OutboundFailed` follows."""
        stream = StreamState(stream_id, None, None, now)
        self.streams[stream_id] = stream
        self._send_control(messages.OutboundConnect(stream_id, target_addr))
        return stream

    def send_data(self, stream: StreamState, payload: bytes | bytearray | memoryview, now: float) -> None:
        """Send at most 32 KiB (`frames.MAX_PAYLOAD`) of a live stream that has credits (`StreamState.can_send`)."""
        self._count_sent(stream, len(payload), now)
        self._outgoing.append(frames.data_frame(stream.id, payload))

    def send_message(self, stream: StreamState, message: memoryview, now: float) -> None:
        """Do as `send_data` does with a payload that follows room for its header, without a copy.

        Args:
            message: `frames.DATA_HEADER_LENGTH` bytes of room, then the payload. The room is filled in; the caller
                sends what `outgoing` gives before it touches the message again.
        """
        self._count_sent(stream, len(message) - frames.DATA_HEADER_LENGTH, now)
        message[: frames.DATA_HEADER_LENGTH] = b"\x01" + stream.id
        self._outgoing.append(message)

    def _count_sent(self, stream: StreamState, size: int, now: float) -> None:
        if stream.send_credits is not None:
            stream.send_credits -= 1
        stream.last_activity = now
        self.counters.data_sent += 1
        self.counters.bytes_sent += size
        stream.bytes_sent += size

    def consumed(self, stream: StreamState, count: int = 1) -> None:
        """Note that ``count`` data messages of a stream reached its target, so that the node may send more."""
        if stream.window is None or self.streams.get(stream.id) is not stream:
            return
        grant = self._budget.consume(stream.window, count)
        if grant:
            self._send_control(messages.ResumeStream(stream.id, grant))

    def end_stream(self, stream: StreamState, reason: str) -> None:
        """End a stream from our side, after all that was sent for it. Ending it twice does nothing."""
        if self.streams.get(stream.id) is stream:
            self._forget(stream)
            self._send_control(messages.Disconnect(stream.id, reason))

    def outgoing(self) -> deque[str | bytes | memoryview]:
        """Return what is to be sent (str = text frame, else a binary frame). The caller empties it."""
        return self._outgoing

    def _send_control(self, message: messages.ControlMessage) -> None:
        self._outgoing.append(frames.control_frame(messages.encode(message)))

    # -- time --------------------------------------------------------------------------------------------------

    def tick(self, now: float, heard: float | None = None) -> list[Event]:
        """Do what is due. Call it about once a second.

        Args:
            heard: when anything came from the node last, be it a pong of the WebSocket; None for just now.
        """
        if (
            self._challenge_due is not None
            and now >= self._challenge_due
            and self.state is HandshakeState.AWAITING_CHALLENGE
        ):
            return self._fail(
                EndKind.LOST,
                f"no challenge within {self._times.challenge_timeout:.0f} s: the node is stuck, "
                "or older than attestation and needs a pre-signed token",
            )
        malformed = self.counters.malformed + self.counters.unknown_events
        if malformed - self._malformed_before > MAX_MALFORMED and self.state is not HandshakeState.FAILED:
            return self._fail(
                EndKind.LOST, f"node sent more than {MAX_MALFORMED} malformed or unknown messages within a second"
            )
        self._malformed_before = malformed
        events: list[Event] = []
        if self.state is HandshakeState.FAILED:
            return events
        self.wants_answer = False
        for stream in list(self.streams.values()):
            # What we send does not count: a download leaves nothing in the node's lane.
            if stream.window is not None and now - stream.last_received >= self._times.quiet_after:
                self._budget.rest(stream.window)
            if self.health.inactivity and stream.life is not StreamLife.DIALLING:
                self._probe(stream, now, now if heard is None else heard, events)
        return events

    def _probe(self, stream: StreamState, now: float, heard: float, events: list[Event]) -> None:
        if now - stream.last_activity < self.health.inactivity:
            stream.pinged_at = None
        elif stream.pinged_at is None:
            stream.pinged_at, stream.overdue = now, False
            self._send_control(messages.PingClient(stream.id))
        elif now - stream.pinged_at >= self.health.pong and (self._pong_seen or self.dialect is Dialect.ATTESTED):
            # An old node may know no pings at all: only one that has answered some is believed to have lost a stream.
            if heard < stream.pinged_at + self.health.pong:
                stream.overdue = self.wants_answer = True  # it may be the node that hangs, not the stream that is lost
                return
            if stream.overdue:
                stream.overdue = False  # the node is back: its pong comes behind what was heard
                return
            self.counters.health_timeouts += 1
            self.end_stream(stream, Reason.TIMEOUT)
            events.append(StreamEnded(stream, Reason.TIMEOUT))

    # -- bookkeeping -------------------------------------------------------------------------------------------

    def _forget(self, stream: StreamState) -> None:
        del self.streams[stream.id]
        stream.advance(StreamEvent.ENDED)
        stream.send_credits = 0  # nothing may follow the disconnect
        if stream.window is not None:
            self._budget.rest(stream.window)
        self._remember(stream.id)

    def _remember(self, stream_id: bytes) -> None:
        self._finished.pop(stream_id, None)
        self._finished[stream_id] = None
        if len(self._finished) > REMEMBERED_STREAMS:
            self._finished.popitem(last=False)
