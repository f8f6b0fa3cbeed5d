"""Properties of the session's core: whatever comes, in whatever order, it does not raise, grow or break its word."""

import json
import uuid
from typing import Any

from django.test import SimpleTestCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.protocol import frames, messages, session
from relay.protocol.credits import CEILING, FLOOR
from relay.protocol.events import OutboundFailed, Stage, StreamData, StreamEnded, StreamOpened, TokenNeeded
from relay.protocol.handshake import Dialect, HandshakeState
from relay.protocol.messages import Disconnect, OutboundConnect, PingClient, ResumeStream
from relay.protocol.session import SessionCore
from relay.protocol.stream import StreamState
from relay.protocol.times import HealthTimes

IDS = [uuid.UUID(int=number).bytes for number in range(1, 7)]
EVENTS = [
    "connect",
    "disconnect",
    "ping_client",
    "pong_client",
    "pause_stream",
    "resume_stream",
    "outbound_connect",
    "outbound_result",
    "other",
]

stream_ids = st.sampled_from(IDS)
strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**20, 2**20 + 1, 2**63, 10**400, -1, 0]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["\ud800", "\udfff\ud800", "\0", "x" * 5000, "udp", "tcp", "ſ", "1e999"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
names = st.sampled_from(
    ["event", "client_id", "conn_port", "client_ip", "transport", "hostname", "is_tls", "reason", "success", "credits"]
)
hostile_bodies = st.sampled_from(
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"event":' + b"9" * 50_000 + b"}",
        b'{"event":"connect","event":"disconnect","client_id":"x","client_id":"00000000-0000-0000-0000-000000000001"}',
        b'{"event":"resume_stream","client_id":"00000000-0000-0000-0000-000000000001","credits":NaN}',
        b'{"event":"resume_stream","client_id":"00000000-0000-0000-0000-000000000001","credits":1e400}',
        b'{"event":"disconnect","client_id":"00000000-0000-0000-0000-000000000001","reason":"\\ud800"}',
        b'{"event":"disconnect","client_id":"00000000-0000-0000-0000-000000000001","reason":"\xed\xa0\x80"}',
        b" " * 200_000 + b"{}",
        "{}".encode("utf-16"),
    ]
)


@st.composite
def odd_controls(draw: st.DrawFn) -> bytes:
    fields: dict[str, Any] = {
        "event": draw(st.sampled_from(EVENTS)),
        "client_id": str(uuid.UUID(bytes=draw(stream_ids))),
    }
    fields |= draw(st.dictionaries(names, strange, max_size=4))
    return frames.control_frame(json.dumps(fields).encode("utf-8", "surrogatepass"))


def controls(event: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.fixed_dictionaries(
        {"event": st.just(event), "client_id": stream_ids.map(lambda known: str(uuid.UUID(bytes=known)))},
        optional=fields,
    ).map(lambda body: frames.control_frame(json.dumps(body).encode()))


grants = st.sampled_from([1, 2, 8, 64])
data = st.builds(frames.data_frame, stream_ids, st.binary(max_size=40))
proper = st.one_of(
    controls("connect", credits=grants, hostname=st.just("app.example.com"), conn_port=st.just(443)),
    data,
    data,
    controls("disconnect", reason=st.sampled_from(["normal", "timeout"])),
    controls("resume_stream", credits=grants),
    controls("pong_client"),
    controls("outbound_result", success=st.booleans(), credits=grants),
)
binaries = st.one_of(
    proper,
    proper,
    proper,
    odd_controls(),
    st.binary(max_size=60),
    st.builds(lambda kind, rest: bytes([kind]) + rest, st.sampled_from([1, 2]), st.binary(max_size=30)),
    hostile_bodies.map(frames.control_frame),
)
texts = st.one_of(
    st.text(max_size=30),
    hostile_bodies.map(lambda body: body.decode("utf-8", "replace")),
    st.builds(
        lambda kind, nonce: json.dumps({"type": kind, "nonce": nonce}),
        st.sampled_from(["handshake_challenge", "reauth_challenge", "x"]) | strange,
        st.sampled_from(["n1", "n2"]) | strange,
    ),
)
steps = st.one_of(
    st.tuples(st.just("binary"), binaries),
    st.tuples(st.just("binary"), binaries),
    st.tuples(st.just("binary"), binaries),
    st.tuples(st.just("text"), texts),
    st.tuples(st.just("token"), st.none()),
    st.tuples(st.just("tick"), st.floats(0, 100)),
    st.tuples(st.just("send"), st.tuples(stream_ids, st.sampled_from([0, 1, 100, frames.MAX_PAYLOAD]))),
    st.tuples(st.just("consume"), st.tuples(stream_ids, st.integers(1, 9))),
    st.tuples(st.just("end"), stream_ids),
    st.tuples(st.just("old"), st.sampled_from(["send", "consume", "end"])),
    st.tuples(st.just("outbound"), st.none()),
)


class World:
    """A shell that keeps the rules, a node that keeps none, and the books about both."""

    def __init__(self, dialect: Dialect, *, opened: bool) -> None:
        self.now = 0.0
        self.core = SessionCore(dialect, health=HealthTimes(inactivity=60, pong=5))
        self.wanted: list[TokenNeeded] = []
        self.live: dict[bytes, StreamState] = {}
        self.gone: list[StreamState] = []
        self.unconsumed: dict[bytes, int] = {}
        self.asked: set[bytes] = set()
        self.fresh = 1000
        # What the node may hold against us, by stream life.
        self.allowance: dict[bytes, int | None] = {}
        self.closed: set[bytes] = set()
        self.unknown: list[bytes] = []
        self.failed = False
        self.take(self.core.start())
        if opened:
            self.token()
            if dialect is Dialect.ATTESTED:
                self.take(self.core.receive_text('{"type":"handshake_challenge","nonce":"n"}', self.now))
                self.token()
        self.sent()

    # -- events ------------------------------------------------------------------------------------------------

    def take(self, events: list[Any]) -> None:
        for event in events:
            assert not self.failed, "a failed session is silent"
            match event:
                case TokenNeeded():
                    self.wanted.append(event)
                case StreamOpened(stream=stream):
                    assert stream.id not in self.live or stream.id in self.asked
                    self.asked.discard(stream.id)
                    self.live[stream.id] = stream
                    self.unconsumed.setdefault(stream.id, 0)
                    self.allowance[stream.id] = stream.send_credits
                    self.closed.discard(stream.id)
                case StreamData(stream=stream):
                    assert self.live[stream.id] is stream
                    self.unconsumed[stream.id] += 1
                case StreamEnded(stream=stream) | OutboundFailed(stream=stream):
                    assert self.live.pop(stream.id) is stream
                    self.gone.append(stream)
                    self.unconsumed.pop(stream.id, None)
                    self.asked.discard(stream.id)
        if self.core.state is HandshakeState.FAILED:
            self.failed = True

    def sent(self) -> int:
        """Empty the queue, check every message of it and return how many there were."""
        count = 0
        while self.core.outgoing():
            count += 1
            message = self.core.outgoing().popleft()
            assert len(message) <= frames.MAX_OUTGOING_MESSAGE
            if isinstance(message, str):
                continue
            if message[0] == frames.DATA:
                stream_id = message[1:17]
                assert stream_id not in self.closed, "data after our disconnect"
                allowance = self.allowance[stream_id]
                if allowance is not None:
                    assert allowance > 0, "data without credit"
                    self.allowance[stream_id] = allowance - 1
                continue
            control = messages.parse_control(message[1:])
            assert isinstance(control, Disconnect | ResumeStream | PingClient | OutboundConnect), control
            if isinstance(control, Disconnect):
                assert control.reason
                assert control.stream_id not in self.closed, "a second disconnect"
                self.closed.add(control.stream_id)
                if control.reason == "unknown":
                    self.unknown.append(control.stream_id)
            else:
                assert control.stream_id not in self.closed
        return count

    # -- steps -------------------------------------------------------------------------------------------------

    def binary(self, message: bytes) -> None:
        open_before = self.core.state is HandshakeState.OPEN
        stream_id = bytes(message[1:17])
        known = self.core.streams.get(stream_id)
        events = self.core.receive_binary(message, self.now)
        if open_before and message[:1] == b"\x01" and len(message) >= 17 and known is not None:
            # Exactly once, in order, whole.
            (event,) = events
            assert event.stream is known and event.payload == message[17:]
        else:
            assert not any(isinstance(event, StreamData) for event in events)
        if open_before and message[:1] == b"\x02":
            control = messages.parse_control(message[1:])
            if isinstance(control, ResumeStream) and control.stream_id in self.live:
                allowance = self.allowance.get(control.stream_id)
                if allowance is not None and control.stream_id not in self.asked:
                    self.allowance[control.stream_id] = min(messages.MAX_GRANT, allowance + control.credits)
            elif isinstance(control, messages.Connect) and any(isinstance(event, StreamOpened) for event in events):
                self.closed.discard(control.stream_id)
        self.take(events)

    def text(self, text: str) -> None:
        self.take(self.core.receive_text(text, self.now))

    def token(self, _: None = None) -> None:
        if self.wanted:
            need = self.wanted.pop()
            self.core.send_token(need.stage, need.nonce, "jwt", self.now)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.core.tick(self.now))

    def send(self, what: tuple[bytes, int]) -> None:
        stream_id, size = what
        stream = self.live.get(stream_id)
        if stream is not None and stream.can_send():
            self.core.send_data(stream, bytes(size), self.now)

    def consume(self, what: tuple[bytes, int]) -> None:
        stream_id, count = what
        stream = self.live.get(stream_id)
        if stream is not None and (count := min(count, self.unconsumed[stream_id])):
            self.unconsumed[stream_id] -= count
            self.core.consumed(stream, count)

    def end(self, stream_id: bytes) -> None:
        if stream_id in self.live:
            stream = self.live.pop(stream_id)
            self.gone.append(stream)
            self.asked.discard(stream_id)
            self.unconsumed.pop(stream_id, None)
            self.core.end_stream(stream, "normal")

    def old(self, what: str) -> None:
        """A call that comes late, for a stream that is over."""
        for stream in self.gone[-3:]:
            before = len(self.core.outgoing())
            if what == "send":
                assert not stream.can_send()
            elif what == "consume":
                self.core.consumed(stream, 5)
            else:
                self.core.end_stream(stream, "local_error")
            assert len(self.core.outgoing()) == before

    def outbound(self, _: None) -> None:
        if self.core.state is HandshakeState.OPEN:
            free = [known for known in IDS if known not in self.live]
            if free:
                stream_id = free[0]
                self.closed.discard(stream_id)
                self.asked.add(stream_id)
                self.live[stream_id] = self.core.open_outbound(stream_id, "example.com:25", self.now)
                self.allowance[stream_id] = 0
                self.unconsumed[stream_id] = 0

    def check(self) -> None:
        core = self.core
        assert len(core.streams) <= session.MAX_STREAMS
        assert len(core._finished) <= session.REMEMBERED_STREAMS
        if not self.failed:
            assert core.streams == self.live
        windows = [stream.window for stream in core.streams.values() if stream.window is not None]
        assert all(FLOOR <= window.size <= CEILING for window in windows)
        assert core._budget.open == sum(window.size for window in windows if window.active)


class CoreProperties(SimpleTestCase):
    def play(self, world: World, script: list[tuple[str, Any]]) -> None:
        for what, argument in script:
            if world.failed and what not in ("binary", "text", "tick", "token", "end", "consume"):
                continue
            live = len(world.live)
            getattr(world, what)(argument)
            # What waits to be sent is bounded by what was asked: at most a grant, a ping or an end for each stream.
            self.assertLessEqual(world.sent(), max(2, 2 * live))
            world.check()
        self.assertEqual(len(world.unknown), world.core.counters.unknown_streams)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(st.sampled_from(Dialect), st.booleans(), st.lists(steps, max_size=60))
    def test_nothing_breaks_the_core(self, dialect: Dialect, opened: bool, script: list[tuple[str, Any]]) -> None:
        self.play(World(dialect, opened=opened), script)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(st.lists(st.tuples(st.just("binary"), proper) | steps, min_size=30, max_size=150))
    def test_long_sessions(self, script: list[tuple[str, Any]]) -> None:
        calm = [step for step in script if step[0] != "text"]
        world = World(Dialect.ATTESTED, opened=True)
        self.play(world, calm)
        self.assertFalse(world.failed)

    @settings(max_examples=100, deadline=None)
    @given(binaries)
    def test_a_message_of_any_buffer_type_means_the_same(self, message: bytes) -> None:
        results = []
        for buffer in (message, bytearray(message), memoryview(message)):
            world = World(Dialect.ATTESTED, opened=True)
            world.take(world.core.receive_binary(buffer, 1.0))
            results.append((list(world.core.outgoing()), sorted(world.live), world.core.counters))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    def test_a_flood_of_garbage_leaves_nothing_behind(self) -> None:
        world = World(Dialect.ATTESTED, opened=True)
        for number in range(3 * session.REMEMBERED_STREAMS):
            world.binary(frames.data_frame(number.to_bytes(16, "big"), b"x"))
            world.binary(bytes([2 + number % 254]) + b"\xff" * 20)
            world.text("{" * (number % 50))
            self.assertLessEqual(world.sent(), 2)
        self.assertEqual(len(world.core._finished), session.REMEMBERED_STREAMS)
        self.assertEqual((world.core.streams, len(world.core.outgoing())), ({}, 0))

    def test_a_flood_of_challenges_is_answered_by_one_token(self) -> None:
        world = World(Dialect.ATTESTED, opened=True)
        for number in range(1000):
            world.text(json.dumps({"type": "reauth_challenge", "nonce": f"n{number}"}))
        for need in world.wanted:
            world.core.send_token(need.stage, need.nonce, "jwt", 1.0)
        self.assertEqual(list(world.core.outgoing()), ["jwt"])
        self.assertEqual(world.wanted[-1], TokenNeeded(Stage.REAUTH, "n999"))
