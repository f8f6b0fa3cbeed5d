"""Tests of relay.protocol.session: every state against every input, then streams, credits, health."""

import json
import uuid
from collections.abc import Callable

from django.test import SimpleTestCase

from relay.protocol import frames, messages, session
from relay.protocol.credits import CEILING, FIRST
from relay.protocol.events import (
    EndKind,
    OutboundFailed,
    SessionFailed,
    Stage,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamWritable,
    TokenNeeded,
)
from relay.protocol.handshake import Dialect, HandshakeState
from relay.protocol.messages import Connect, Disconnect, OutboundResult, PongClient, ResumeStream
from relay.protocol.session import MAX_MALFORMED, SessionCore
from relay.protocol.times import HealthTimes, ProtocolTimes

TIMES = ProtocolTimes()
A = uuid.UUID(int=0xA).bytes
B = uuid.UUID(int=0xB).bytes


def control(message: messages.ControlMessage) -> bytes:
    return frames.control_frame(messages.encode(message))


def challenge(kind: str = "handshake", nonce: str = "n1") -> str:
    return json.dumps({"type": f"{kind}_challenge", "nonce": nonce})


def sent(core: SessionCore) -> list[object]:
    """Empty the outgoing queue and return it parsed: tokens as text, data as (id, payload)."""
    found: list[object] = []
    while core.outgoing():
        message = core.outgoing().popleft()
        if isinstance(message, str):
            found.append(message)
        elif message[0] == frames.DATA:
            found.append((message[1:17], message[17:]))
        else:
            found.append(messages.parse_control(message[1:]))
    return found


def token_session(health: HealthTimes | None = None) -> SessionCore:
    core = SessionCore(Dialect.TOKEN, health=health)
    core.start()
    core.send_token(Stage.HANDSHAKE, "", "jwt", 0.0)
    sent(core)
    return core


def attested_session(health: HealthTimes | None = None) -> SessionCore:
    core = SessionCore(Dialect.ATTESTED, health=health)
    core.start()
    core.send_token(Stage.HANDSHAKE, "", "jwt-1", 0.0)
    core.receive_text(challenge(), 0.0)
    core.send_token(Stage.ATTEST, "n1", "jwt-2", 0.0)
    sent(core)
    return core


class HandshakeTests(SimpleTestCase):
    def test_token_dialect(self) -> None:
        core = SessionCore(Dialect.TOKEN)
        self.assertEqual(core.start(), [TokenNeeded(Stage.HANDSHAKE, "")])
        self.assertEqual(sent(core), [])
        core.send_token(Stage.HANDSHAKE, "", "jwt", 0.0)
        self.assertEqual((sent(core), core.state), (["jwt"], HandshakeState.OPEN))

    def test_attested_dialect(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        self.assertEqual(core.start(), [TokenNeeded(Stage.HANDSHAKE, "")])
        core.send_token(Stage.HANDSHAKE, "", "jwt-1", 0.0)
        self.assertEqual((sent(core), core.state), (["jwt-1"], HandshakeState.AWAITING_CHALLENGE))
        self.assertEqual(core.receive_text(challenge(nonce="n"), 1.0), [TokenNeeded(Stage.ATTEST, "n")])
        self.assertEqual(core.state, HandshakeState.ATTESTING)
        core.send_token(Stage.ATTEST, "n", "jwt-2", 2.0)
        self.assertEqual((sent(core), core.state), (["jwt-2"], HandshakeState.OPEN))

    def test_tokens_that_are_not_wanted_are_dropped(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        core.start()
        core.send_token(Stage.ATTEST, "", "wrong stage", 0.0)
        core.send_token(Stage.HANDSHAKE, "n", "wrong nonce", 0.0)
        self.assertEqual((sent(core), core.state), ([], HandshakeState.START))
        core.send_token(Stage.HANDSHAKE, "", "right", 0.0)
        core.send_token(Stage.HANDSHAKE, "", "again", 0.0)
        self.assertEqual(sent(core), ["right"])

    def test_no_challenge_in_time_is_a_loss(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        core.start()
        core.send_token(Stage.HANDSHAKE, "", "jwt", 10.0)
        self.assertEqual(core.tick(10.0 + TIMES.challenge_timeout - 0.1), [])
        (event,) = core.tick(10.0 + TIMES.challenge_timeout)
        self.assertIsInstance(event, SessionFailed)
        self.assertEqual((event.kind, core.state), (EndKind.LOST, HandshakeState.FAILED))  # type: ignore[union-attr]
        self.assertEqual(core.tick(1000.0), [])

    def test_an_empty_nonce_ends_the_handshake(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        core.start()
        core.send_token(Stage.HANDSHAKE, "", "jwt", 0.0)
        sent(core)
        (event,) = core.receive_text('{"type":"handshake_challenge","nonce":""}', 0.1)
        self.assertIsInstance(event, SessionFailed)
        self.assertEqual((core.state, sent(core)), (HandshakeState.FAILED, []))

    def test_a_slow_token_of_ours_is_not_the_nodes_fault(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        core.start()
        self.assertEqual(core.tick(500.0), [])
        core.send_token(Stage.HANDSHAKE, "", "jwt", 500.0)
        core.receive_text(challenge(), 501.0)
        self.assertEqual(core.tick(1000.0), [])

    def test_an_attesting_node_is_never_mistaken_for_an_accepting_one(self) -> None:
        for kind in ("handshake", "reauth"):
            core = token_session()
            (event,) = core.receive_text(challenge(kind), 0.1)
            self.assertIsInstance(event, SessionFailed)
            self.assertIs(event.kind, EndKind.WRONG_DIALECT)  # type: ignore[union-attr]
            self.assertIn("HMAC secret", event.problem)  # type: ignore[union-attr]
            self.assertEqual((sent(core), core.receive_text(challenge(kind), 0.2)), ([], []))

    def test_an_old_node_is_told_from_an_attesting_one(self) -> None:
        core = SessionCore(Dialect.ATTESTED)
        core.start()
        core.send_token(Stage.HANDSHAKE, "", "jwt", 0.0)
        (event,) = core.receive_binary(control(Connect(A)), 1.0)
        self.assertIs(event.kind, EndKind.WRONG_DIALECT)  # type: ignore[union-attr]
        self.assertEqual(core.streams, {})


class StateTableTests(SimpleTestCase):
    """What each state makes of each input: ``.`` nothing, ``T`` asks for a token, ``S`` a stream opens, ``F`` fails."""

    INPUTS: dict[str, Callable[[SessionCore], list[object]]] = {
        "handshake challenge": lambda core: core.receive_text(challenge(nonce="new"), 1.0),  # type: ignore[dict-item]
        "reauth challenge": lambda core: core.receive_text(challenge("reauth", "new"), 1.0),  # type: ignore[dict-item]
        "empty nonce": lambda core: core.receive_text(challenge(nonce=""), 1.0),  # type: ignore[dict-item]
        "unknown text": lambda core: core.receive_text('{"type":"motd"}', 1.0),  # type: ignore[dict-item]
        "connect": lambda core: core.receive_binary(control(Connect(A, credits=64)), 1.0),  # type: ignore[dict-item]
        "data": lambda core: core.receive_binary(frames.data_frame(B, b"x"), 1.0),  # type: ignore[dict-item]
        "other byte": lambda core: core.receive_binary(b"\x07abc", 1.0),  # type: ignore[dict-item]
        "empty": lambda core: core.receive_binary(b"", 1.0),  # type: ignore[dict-item]
        "tick": lambda core: core.tick(1.0),  # type: ignore[dict-item]
    }
    TABLE = {
        "token START": "FF.......",
        "token OPEN": "FF..S....",
        "token FAILED": ".........",
        "attested START": ".........",
        "attested AWAITING_CHALLENGE": "T.F.FF...",
        "attested ATTESTING": ".........",
        "attested OPEN": ".T..S....",
        "attested FAILED": ".........",
    }

    @staticmethod
    def reach(name: str) -> SessionCore:
        dialect, state = name.split()
        core = SessionCore(Dialect(dialect))
        core.start()
        if state == "START":
            return core
        core.send_token(Stage.HANDSHAKE, "", "jwt", 0.0)
        if state == "FAILED":
            core.receive_text(challenge() if core.dialect is Dialect.TOKEN else "", 0.0)
        elif core.dialect is Dialect.ATTESTED and state != "AWAITING_CHALLENGE":
            core.receive_text(challenge(nonce="old"), 0.0)
            if state == "OPEN":
                core.send_token(Stage.ATTEST, "old", "jwt", 0.0)
        sent(core)
        return core

    def test_table(self) -> None:
        letters = {TokenNeeded: "T", StreamOpened: "S", SessionFailed: "F"}
        for name, row in self.TABLE.items():
            for (what, act), expected in zip(self.INPUTS.items(), row, strict=True):
                with self.subTest(state=name, input=what):
                    core = self.reach(name)
                    self.assertEqual(core.state.name, name.split()[1])
                    events = act(core)
                    self.assertEqual("".join(letters[type(event)] for event in events) or ".", expected)
                    if core.state is not HandshakeState.OPEN:
                        self.assertEqual(sent(core), [], "nothing but tokens leaves before the session is open")
                    if expected == "F":
                        self.assertIs(core.state, HandshakeState.FAILED)


class ReauthTests(SimpleTestCase):
    def test_a_challenge_is_answered_amid_data(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        self.assertEqual(core.receive_text(challenge("reauth", "n2"), 2.0), [TokenNeeded(Stage.REAUTH, "n2")])
        core.receive_binary(frames.data_frame(A, b"x"), 2.0)
        core.send_data(core.streams[A], b"y", 2.0)
        core.send_token(Stage.REAUTH, "n2", "jwt-3", 3.0)
        self.assertEqual(sent(core)[1:], [(A, b"y"), "jwt-3"])
        self.assertEqual((core.state, core.counters.reauths), (HandshakeState.OPEN, 1))

    def test_only_the_newest_challenge_is_answered(self) -> None:
        core = attested_session()
        core.receive_text(challenge("reauth", "n2"), 2.0)
        core.receive_text(challenge("reauth", "n3"), 2.0)
        core.send_token(Stage.REAUTH, "n2", "late", 3.0)
        core.send_token(Stage.REAUTH, "n3", "newest", 3.0)
        core.send_token(Stage.REAUTH, "n3", "twice", 3.0)
        self.assertEqual(sent(core), ["newest"])


class StreamTests(SimpleTestCase):
    def test_the_first_grant_leaves_before_anything_else(self) -> None:
        core = attested_session()
        (event,) = core.receive_binary(control(Connect(A, hostname="app", credits=64)), 1.0)
        self.assertIsInstance(event, StreamOpened)
        self.assertEqual(sent(core), [ResumeStream(A, FIRST)])

    def test_no_credits_in_connect_is_no_limit_and_gets_no_grant(self) -> None:
        core = token_session()
        core.receive_binary(control(Connect(A)), 1.0)
        stream = core.streams[A]
        for _ in range(1000):
            self.assertTrue(stream.can_send())
            core.send_data(stream, b"x", 1.0)
        core.receive_binary(frames.data_frame(A, b"y"), 1.0)
        core.consumed(stream)
        self.assertEqual([message for message in sent(core) if not isinstance(message, tuple)], [])

    def test_data_may_be_empty_or_64_kib(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        for size in (0, frames.MAX_FIRST_PAYLOAD):
            (event,) = core.receive_binary(frames.data_frame(A, bytes(size)), 1.0)
            assert isinstance(event, StreamData)
            self.assertEqual(len(event.payload), size)

    def test_the_clients_disconnect_has_its_reason_and_is_sent_once(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        stream = core.streams[A]
        core.send_data(stream, b"last", 1.0)
        core.end_stream(stream, "dial_failed")
        core.end_stream(stream, "normal")
        self.assertEqual(sent(core)[1:], [(A, b"last"), Disconnect(A, "dial_failed")])
        self.assertFalse(stream.can_send(), "nothing follows a disconnect")
        core.consumed(stream, 100)
        self.assertEqual(sent(core), [])

    def test_what_comes_late_for_an_ended_stream_is_not_answered(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        core.end_stream(core.streams[A], "normal")
        sent(core)
        for message in (
            frames.data_frame(A, b"x"),
            control(ResumeStream(A, 8)),
            control(Disconnect(A)),
            control(PongClient(A)),
        ):
            self.assertEqual((core.receive_binary(message, 2.0), sent(core)), ([], []))

    def test_the_nodes_disconnect_ends_the_stream_and_is_confirmed(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        stream = core.streams[A]
        self.assertEqual(core.receive_binary(control(Disconnect(A)), 2.0), [StreamEnded(stream, "normal")])
        self.assertEqual(sent(core)[1:], [Disconnect(A, "normal")])
        core.end_stream(stream, "local_error")
        self.assertEqual((core.streams, sent(core)), ({}, []))

    def test_an_unknown_stream_is_answered_once(self) -> None:
        core = attested_session()
        for _ in range(5):
            self.assertEqual(core.receive_binary(frames.data_frame(A, b"x"), 1.0), [])
        self.assertEqual(sent(core), [Disconnect(A, "unknown")])
        self.assertEqual(core.counters.unknown_streams, 1)

    def test_control_for_an_unknown_stream_is_ignored(self) -> None:
        core = attested_session()
        for message in (Disconnect(A), PongClient(A), ResumeStream(A, 8), OutboundResult(A, True, credits=64)):
            self.assertEqual((core.receive_binary(control(message), 1.0), sent(core)), ([], []))

    def test_short_and_strange_frames_are_counted(self) -> None:
        core = attested_session()
        for message in (b"", b"\x00", b"\x03{}", b"\x01", b"\x01" + A[:15], b"\x02", b"\x02{}", b"\xff" * 100):
            self.assertEqual((core.receive_binary(message, 1.0), sent(core)), ([], []))
        self.assertEqual(core.counters.malformed, 8)

    def test_a_second_connect_for_a_live_stream_changes_nothing(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, hostname="one", credits=64)), 1.0)
        stream = core.streams[A]
        sent(core)
        self.assertEqual(core.receive_binary(control(Connect(A, hostname="two", credits=64)), 1.0), [])
        self.assertEqual((core.streams, sent(core)), ({A: stream}, []))

    def test_an_id_that_is_used_again_is_a_new_stream(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 1.0)
        old = core.streams[A]
        core.end_stream(old, "normal")
        core.receive_binary(control(Connect(A, credits=64)), 2.0)
        sent(core)
        core.end_stream(old, "normal")
        core.consumed(old, 64)
        self.assertEqual(sent(core), [])
        self.assertIsNot(core.streams[A], old)

    def test_streams_are_bounded(self) -> None:
        core = token_session()
        for number in range(session.MAX_STREAMS + 10):
            core.receive_binary(control(Connect(number.to_bytes(16, "big"))), 1.0)
        self.assertEqual(len(core.streams), session.MAX_STREAMS)
        refused = sent(core)
        self.assertEqual(len(refused), 10)
        self.assertEqual({message.reason for message in refused}, {"buffer_full"})  # type: ignore[attr-defined]
        self.assertEqual(core.counters.streams_refused, 10)

    def test_a_strangers_long_name_costs_its_user_alone(self) -> None:
        core = token_session()
        core.receive_binary(control(Connect(A, hostname="app.example.com")), 1.0)
        for _ in range(2 * MAX_MALFORMED):
            core.receive_binary(control(Connect(B, hostname="a" * 60_000)), 1.0)
        core.receive_binary(frames.data_frame(B, b"GET /"), 1.0)
        self.assertEqual(set(sent(core)), {Disconnect(B, "dial_failed")})
        self.assertEqual((core.tick(2.0), list(core.streams)), ([], [A]))
        self.assertEqual((core.counters.streams_refused, core.counters.malformed), (2 * MAX_MALFORMED, 0))
        core.receive_binary(control(Connect(A, hostname="a" * 60_000)), 2.0)
        self.assertEqual((sent(core), list(core.streams), core.counters.malformed), ([], [A], 1))

    def test_remembered_ids_are_bounded(self) -> None:
        core = token_session()
        for number in range(3 * session.REMEMBERED_STREAMS):
            core.receive_binary(frames.data_frame(number.to_bytes(16, "big"), b""), 1.0)
        self.assertEqual(len(core._finished), session.REMEMBERED_STREAMS)


class CreditTests(SimpleTestCase):
    def test_sending_stops_at_zero_and_goes_on_with_a_grant(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=2)), 1.0)
        core.receive_binary(control(Connect(B, credits=1)), 1.0)
        a, b = core.streams[A], core.streams[B]
        core.send_data(a, b"1", 1.0)
        core.send_data(a, b"2", 1.0)
        self.assertEqual((a.can_send(), b.can_send()), (False, True))
        self.assertEqual(core.receive_binary(control(ResumeStream(A)), 1.0), [])
        self.assertEqual(core.receive_binary(control(ResumeStream(A, messages.MAX_GRANT + 1)), 1.0), [])
        self.assertFalse(a.can_send())
        self.assertEqual(core.receive_binary(control(ResumeStream(A, 8)), 1.0), [StreamWritable(a)])
        self.assertEqual(core.receive_binary(control(ResumeStream(A, 8)), 1.0), [])
        self.assertEqual(a.send_credits, 16)

    def test_grants_do_not_add_up_without_end(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=1)), 1.0)
        for _ in range(3):
            core.receive_binary(control(ResumeStream(A, messages.MAX_GRANT)), 1.0)
        self.assertEqual(core.streams[A].send_credits, messages.MAX_GRANT)

    def test_a_download_lends_its_window(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.send_data(core.streams[A], b"x", TIMES.quiet_after)
        core.tick(TIMES.quiet_after)
        self.assertEqual(core._budget.open, 0)
        core.receive_binary(frames.data_frame(A, b"x"), TIMES.quiet_after)
        core.consumed(core.streams[A])
        self.assertEqual(core._budget.open, FIRST)

    def test_an_upload_is_granted_what_was_consumed(self) -> None:
        core = attested_session()
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        stream, granted = core.streams[A], 0
        for _ in range(500):
            core.receive_binary(frames.data_frame(A, b"x"), 0.0)
            core.consumed(stream)
            granted += sum(message.credits for message in sent(core))  # type: ignore[attr-defined]
            self.assertTrue(1 <= granted - core.counters.data_received <= CEILING)


class OutboundTests(SimpleTestCase):
    def test_success(self) -> None:
        core = attested_session()
        stream = core.open_outbound(A, "example.com:25", 1.0)
        self.assertEqual(sent(core), [messages.OutboundConnect(A, "example.com:25")])
        self.assertFalse(stream.can_send())
        self.assertEqual(core.receive_binary(control(OutboundResult(A, True, credits=64)), 2.0), [StreamOpened(stream)])
        self.assertEqual(sent(core), [ResumeStream(A, FIRST)])
        self.assertEqual(stream.send_credits, 64)
        self.assertEqual(core.receive_binary(control(OutboundResult(A, True, credits=64)), 2.0), [])
        self.assertEqual(sent(core), [])

    def test_refusal_is_confirmed_as_recorded(self) -> None:
        core = attested_session()
        stream = core.open_outbound(A, "example.com:22", 1.0)
        sent(core)
        self.assertEqual(
            core.receive_binary(control(OutboundResult(A, reason="not allowed")), 2.0),
            [OutboundFailed(stream, "not allowed")],
        )
        self.assertEqual((sent(core), core.streams), ([Disconnect(A, "dial_failed")], {}))

    def test_a_disconnect_instead_of_a_result_is_a_failed_dial(self) -> None:
        core = attested_session()
        stream = core.open_outbound(A, "example.com:25", 1.0)
        self.assertEqual(
            core.receive_binary(control(Disconnect(A, "shutdown")), 2.0), [OutboundFailed(stream, "shutdown")]
        )


class HealthTests(SimpleTestCase):
    HEALTH = HealthTimes(inactivity=60, pong=5)

    def pings(self, core: SessionCore) -> list[bytes]:
        return [message.stream_id for message in sent(core) if isinstance(message, messages.PingClient)]

    def test_an_idle_stream_is_probed_once_and_lives_on_its_pong(self) -> None:
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.tick(59.0)
        self.assertEqual(self.pings(core), [])
        core.tick(60.0)
        core.tick(61.0)
        self.assertEqual(self.pings(core), [A])
        core.receive_binary(control(PongClient(A)), 62.0)
        self.assertEqual(core.tick(66.0), [])
        core.tick(122.0)
        self.assertEqual(self.pings(core), [A])

    def test_no_pong_is_a_zombie(self) -> None:
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        stream = core.streams[A]
        core.tick(60.0)
        self.assertEqual(core.tick(64.9), [])
        sent(core)
        self.assertEqual(core.tick(65.0), [StreamEnded(stream, "timeout")])
        self.assertEqual(sent(core), [Disconnect(A, "timeout")])
        self.assertEqual(core.counters.health_timeouts, 1)

    def test_no_stream_is_judged_while_the_node_is_silent(self) -> None:
        """It stalls for 8 s and answers then: no stream is cut, though the pongs were due long ago."""
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.tick(60.0, 59.0)
        for now in (65.0, 66.0, 67.0):
            self.assertEqual(core.tick(now, 60.5), [])
            self.assertTrue(core.wants_answer)
        self.assertEqual(core.tick(68.0, 67.9), [], "its pong is behind what came first")
        core.receive_binary(control(PongClient(A)), 68.5)
        self.assertEqual(core.tick(69.0, 68.5), [])
        self.assertIn(A, core.streams)
        self.assertFalse(core.wants_answer)

    def test_a_zombie_is_found_when_the_node_is_back(self) -> None:
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        stream = core.streams[A]
        core.tick(60.0, 59.0)
        self.assertEqual(core.tick(65.0, 64.9), [])
        self.assertEqual(core.tick(66.0, 65.1), [])
        self.assertEqual(core.tick(67.0, 65.1), [StreamEnded(stream, "timeout")])

    def test_data_is_as_good_as_a_pong(self) -> None:
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.tick(60.0)
        core.receive_binary(frames.data_frame(A, b"x"), 63.0)
        self.assertEqual(core.tick(66.0), [])
        self.assertIn(A, core.streams)

    def test_a_pong_that_was_not_asked_for_proves_nothing(self) -> None:
        core = attested_session(self.HEALTH)
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.receive_binary(control(PongClient(A)), 59.0)
        core.tick(60.0)
        self.assertEqual(self.pings(core), [A])

    def test_an_old_node_that_answers_no_ping_at_all_is_believed(self) -> None:
        core = token_session(self.HEALTH)
        core.receive_binary(control(Connect(A)), 0.0)
        core.receive_binary(control(Connect(B)), 0.0)
        core.tick(60.0)
        self.assertEqual(core.tick(100.0), [])
        core.receive_binary(control(PongClient(B)), 101.0)
        self.assertEqual([event.stream.id for event in core.tick(102.0)], [A])  # type: ignore[union-attr]

    def test_switched_off(self) -> None:
        core = attested_session(HealthTimes(inactivity=0))
        core.receive_binary(control(Connect(A, credits=64)), 0.0)
        core.tick(10.0**6)
        self.assertEqual(self.pings(core), [])


class GarbageTests(SimpleTestCase):
    def test_a_flood_of_malformed_messages_ends_the_session(self) -> None:
        core = attested_session()
        for _ in range(MAX_MALFORMED):
            core.receive_binary(b"\x03", 0.0)
        self.assertEqual(core.tick(1.0), [])
        core.receive_binary(b"\x03", 1.0)
        self.assertEqual(core.tick(2.0), [], "it counts by the second")
        for _ in range(MAX_MALFORMED + 1):
            core.receive_binary(b"\x02nonsense", 2.0)
        (event,) = core.tick(3.0)
        self.assertIsInstance(event, SessionFailed)
        self.assertEqual(core.state, HandshakeState.FAILED)

    def test_so_does_a_flood_of_unknown_ones(self) -> None:
        core = attested_session()
        for _ in range(MAX_MALFORMED):
            core.receive_binary(b'\x02{"event":"news"}', 0.0)
        self.assertEqual(core.tick(1.0), [])
        for _ in range(MAX_MALFORMED):
            core.receive_binary(b'\x02{"event":"news"}', 1.0)
        core.receive_text('{"type":"motd"}', 1.0)
        (event,) = core.tick(2.0)
        self.assertIsInstance(event, SessionFailed)
