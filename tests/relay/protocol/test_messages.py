"""Tests of relay.protocol.messages."""

import json
import uuid

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import messages
from relay.protocol.messages import (
    Challenge,
    Connect,
    Disconnect,
    Malformed,
    OutboundConnect,
    OutboundResult,
    PauseStream,
    PingClient,
    PongClient,
    ResumeStream,
    Unknown,
)

TEXT = "0bd59d4b-6267-4ef2-9a52-cac387549d4b"
STREAM = uuid.UUID(TEXT).bytes

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ids = st.binary(min_size=16, max_size=16)
grants = st.integers(1, messages.MAX_GRANT)
control = st.one_of(
    st.builds(
        Connect,
        ids,
        hostname=words,
        conn_port=st.integers(0, 65535),
        client_ip=words,
        transport=st.sampled_from(["tcp", "udp"]),
        is_tls=st.booleans(),
        credits=st.none() | grants,
    ),
    st.builds(Disconnect, ids, words),
    st.builds(PingClient, ids),
    st.builds(PongClient, ids),
    st.builds(PauseStream, ids),
    st.builds(ResumeStream, ids, st.just(0) | grants),
    st.builds(OutboundConnect, ids, words),
    st.builds(OutboundResult, ids, st.booleans(), words, st.none() | grants),
)


def parse(**fields: object) -> object:
    return messages.parse_control(json.dumps({"client_id": TEXT, **fields}).encode())


class ControlTests(SimpleTestCase):
    @given(control)
    def test_every_message_survives_the_wire(self, message: messages.ControlMessage) -> None:
        self.assertEqual(messages.parse_control(messages.encode(message)), message)

    def test_absent_fields_have_their_zero_value(self) -> None:
        self.assertEqual(parse(event="connect"), Connect(STREAM))
        self.assertEqual(parse(event="disconnect"), Disconnect(STREAM, ""))
        self.assertEqual(parse(event="resume_stream"), ResumeStream(STREAM, 0))
        self.assertEqual(parse(event="outbound_result"), OutboundResult(STREAM))
        self.assertEqual(parse(event="connect", hostname=None, credits=None, is_tls=None), Connect(STREAM))

    def test_unknown_events_and_fields_are_ignored(self) -> None:
        self.assertEqual(parse(event="upgrade", shape=[1]), Unknown("upgrade"))
        self.assertEqual(parse(event="pong_client", extra={"deep": [1, None]}), PongClient(STREAM))
        self.assertEqual(messages.parse_control(b'{"event":"news"}'), Unknown("news"))

    def test_wrong_types_are_malformed(self) -> None:
        for fields in (
            {"event": 1},
            {"event": None},
            {"event": "connect", "conn_port": "443"},
            {"event": "connect", "conn_port": 443.0},
            {"event": "connect", "conn_port": True},
            {"event": "connect", "conn_port": -1},
            {"event": "connect", "conn_port": 65536},
            {"event": "connect", "hostname": ["a"]},
            {"event": "connect", "client_ip": 1},
            {"event": "connect", "is_tls": 1},
            {"event": "connect", "is_tls": "true"},
            {"event": "connect", "transport": "sctp"},
            {"event": "connect", "credits": "64"},
            {"event": "resume_stream", "credits": 8.0},
            {"event": "resume_stream", "credits": [8]},
            {"event": "disconnect", "reason": 7},
            {"event": "outbound_result", "success": 1},
        ):
            with self.subTest(fields):
                self.assertIsInstance(parse(**fields), Malformed)

    def test_grants_out_of_range_are_no_grants(self) -> None:
        for value in (0, -1, messages.MAX_GRANT + 1, 10**30):
            self.assertEqual(parse(event="resume_stream", credits=value), ResumeStream(STREAM, 0))
            self.assertEqual(parse(event="connect", credits=value), Connect(STREAM))
        self.assertEqual(
            parse(event="resume_stream", credits=messages.MAX_GRANT), ResumeStream(STREAM, messages.MAX_GRANT)
        )

    def test_ids_are_uuid_text(self) -> None:
        self.assertEqual(parse(event="ping_client", client_id=TEXT.upper()), PingClient(STREAM))
        for value in (
            "",
            None,
            5,
            TEXT[:-1],
            TEXT + "0",
            TEXT.replace("0", "g"),
            f"{{{TEXT}}}",
            "urn:uuid:" + TEXT,
            TEXT.replace("-", ""),
            TEXT.replace("0", "٠"),
            TEXT.replace("-", "_"),
            " " * 36,
        ):
            with self.subTest(value):
                self.assertIsInstance(parse(event="ping_client", client_id=value), Malformed)

    def test_what_is_not_a_json_object_is_malformed(self) -> None:
        whole = f'{{"event":"ping_client","client_id":"{TEXT}"}}'
        self.assertEqual(messages.parse_control(whole.encode()), PingClient(STREAM))
        for body in (
            b"",
            b"\x00",
            b"null",
            b"[]",
            b"1",
            b'"x"',
            b"{",
            whole.encode() + b"}",
            whole.encode("utf-16"),
            whole.encode("utf-32"),
            b"\xef\xbb\xbf" + whole.encode(),
            whole.encode()[:-1] + b',"x":"\xff"}',
            whole.encode()[:-1] + b',"x":NaN}',
            whole.encode()[:-1] + b',"x":-Infinity}',
            b"[" * 60_000,
            b'{"a":' * 12_000,
            whole.encode()[:-1] + b',"x":' + b"9" * 60_000 + b"}",
            whole.encode() + b" " * messages.MAX_JSON,
        ):
            with self.subTest(body[:60]):
                self.assertIsInstance(messages.parse_control(body), Malformed)

    def test_the_last_of_duplicate_keys_counts(self) -> None:
        body = f'{{"event":"disconnect","client_id":"{TEXT}","reason":"a","reason":"b"}}'.encode()
        self.assertEqual(messages.parse_control(body), Disconnect(STREAM, "b"))

    def test_lone_surrogates_never_get_out(self) -> None:
        message = parse(event="disconnect", reason="x\ud800y")
        self.assertEqual(message, Disconnect(STREAM, "x?y"))

    def test_long_texts_are_cut(self) -> None:
        message = parse(event="connect", hostname="a" * 3_000)
        self.assertIsInstance(message, Connect)
        self.assertEqual(len(message.hostname), messages.MAX_TEXT)  # type: ignore[attr-defined]

    def test_what_is_too_long_is_not_looked_at(self) -> None:
        for fields in ({"event": "disconnect", "reason": "a" * 5_000}, {"event": "news", "x": ["a"] * 5_000}):
            self.assertEqual(parse(**fields), Malformed("JSON too long"))

    def test_whose_connect_is_too_long_is_known(self) -> None:
        fields = {"event": "connect", "client_id": TEXT, "conn_port": 80}
        for name in ("a" * 60_000, '"event":"disconnect","client_id":"' * 2_000, "\\" * 60_000):
            for separators in ((",", ":"), (", ", ": ")):
                body = json.dumps(fields | {"hostname": name}, separators=separators).encode()
                self.assertEqual(messages.parse_control(body), messages.TooLong(STREAM))
        for changes in ({"client_id": "-" * 36}, {"client_id": 7}, {"event": "disconnect"}):
            body = json.dumps(fields | changes | {"hostname": "a" * 5_000}).encode()
            self.assertIsInstance(messages.parse_control(body), Malformed)
        spoofed = json.dumps({"event": "x", "hostname": '"event":"connect","client_id":"' + TEXT + '"' + "a" * 5_000})
        self.assertIsInstance(messages.parse_control(spoofed.encode()), Malformed)

    def test_any_buffer_is_taken(self) -> None:
        body = messages.encode(PongClient(STREAM))
        for buffer in (bytearray(body), memoryview(b"\x02" + body)[1:]):
            self.assertEqual(messages.parse_control(buffer), PongClient(STREAM))

    @given(st.binary(max_size=200))
    def test_bytes_never_raise(self, body: bytes) -> None:
        messages.parse_control(body)


class WireFormTests(SimpleTestCase):
    def test_messages_look_as_recorded(self) -> None:
        for message, expected in (
            (ResumeStream(STREAM, 64), {"event": "resume_stream", "client_id": TEXT, "credits": 64}),
            (ResumeStream(STREAM), {"event": "resume_stream", "client_id": TEXT}),
            (PauseStream(STREAM), {"event": "pause_stream", "client_id": TEXT}),
            (PingClient(STREAM), {"event": "ping_client", "client_id": TEXT}),
            (Disconnect(STREAM, "normal"), {"event": "disconnect", "client_id": TEXT, "reason": "normal"}),
            (Disconnect(STREAM), {"event": "disconnect", "client_id": TEXT}),
            (
                OutboundConnect(STREAM, "127.0.0.1:9000"),
                {"event": "outbound_connect", "client_id": TEXT, "target_addr": "127.0.0.1:9000"},
            ),
        ):
            self.assertEqual(json.loads(messages.encode(message)), expected)


class ChallengeTests(SimpleTestCase):
    def test_both_types(self) -> None:
        for kind in ("handshake_challenge", "reauth_challenge"):
            self.assertEqual(messages.parse_challenge(json.dumps({"type": kind, "nonce": "n"})), Challenge(kind, "n"))

    def test_an_empty_nonce_is_an_error(self) -> None:
        for nonce in ("", None, 5, ["n"], "n" * 2000):
            text = json.dumps({"type": "handshake_challenge", "nonce": nonce})
            self.assertIsInstance(messages.parse_challenge(text), Malformed, nonce)
        self.assertIsInstance(messages.parse_challenge('{"type":"reauth_challenge"}'), Malformed)

    def test_unknown_types_are_ignored(self) -> None:
        self.assertEqual(messages.parse_challenge('{"type":"hello"}'), Unknown("hello"))

    def test_anything_else_is_malformed(self) -> None:
        for text in ("", "x", "[]", "{}", '{"type":1}', "[" * 60_000, "\ud800", '{"type":"a"' + " " * 70_000 + "}"):
            self.assertIsInstance(messages.parse_challenge(text), Malformed, text[:20])

    @given(st.text(max_size=100))
    def test_text_never_raises(self, text: str) -> None:
        messages.parse_challenge(text)
