"""The recorded sessions: the node's frames go in, and what comes out must be what the reference client answered.

The shell around the core is scripted: it plays the recorded target (the data that the client sent, the streams that it
ended, the outbound dials that it asked for) and consumes at once what it gets. Where we differ from the reference on
purpose, the comparison says so:

* Grants. The reference opens every stream with 64 and returns 8 per 8; ours share a budget. Compared is that a grant
  answers each announcement of the attested dialect, before all else of the stream, and that none is sent in the other.
* Reasons. The token dialect's recorded client gives none; docs/protocol.md, "Binary frames", asks for one.
* The rhythm of pings. Ours are due when a stream has been idle, counted from its pong; the reference has one timer.
  Here the clock ticks only when the reference pinged, so that the same streams must be probed.
"""

import base64
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.test import SimpleTestCase

from relay.config import AttestationOptions
from relay.protocol import frames, messages
from relay.protocol.credits import CEILING
from relay.protocol.endings import classify
from relay.protocol.events import EndKind, StreamData, StreamOpened, TokenNeeded
from relay.protocol.handshake import Dialect, HandshakeState
from relay.protocol.messages import Connect, Disconnect, OutboundConnect, OutboundResult, PingClient, ResumeStream
from relay.protocol.session import SessionCore
from relay.protocol.times import HealthTimes
from relay.tokens.claims import parse_claims
from relay.tokens.mint import mint

WIRE = Path(__file__).parents[2] / "data" / "wire"
SECRET = "lab-secret-lab-secret-lab-secret-32"
IDLE = 4.9  # the recorded clients were set to 5 s


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (WIRE / f"{name}.jsonl").read_text().splitlines()]


def sessions(name: str) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    for line in recorded(name):
        if line["dir"] == "open":
            found.append([])
        elif line["dir"] != "close" or not found[-1] or found[-1][-1]["dir"] != "close":
            found[-1].append(line)
    return found


def message_of(line: dict[str, Any]) -> bytes:
    """Return a recorded binary frame; data beyond the recorded 80 bytes is zeros."""
    if "control" in line:
        return frames.control_frame(json.dumps(line["control"]).encode())
    return bytes.fromhex(line["hex"]).ljust(line["data_len"], b"\0")


def payload_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return payload


def timeless(token: str) -> dict[str, Any]:
    payload = payload_of(token)
    return {name: value for name, value in payload.items() if name not in ("iat", "exp")} | {
        "lifetime": payload["exp"] - payload["iat"]
    }


@dataclass
class Trace:
    """What a client sent: texts in order, and messages by stream in order."""

    texts: list[str] = field(default_factory=list)
    streams: dict[bytes, list[object]] = field(default_factory=dict)
    granted: dict[bytes, int] = field(default_factory=dict)

    def add(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.texts.append(message)
            return
        if message[0] == frames.DATA:
            self.streams.setdefault(message[1:17], []).append(message[17:])
            return
        control = messages.parse_control(message[1:])
        assert isinstance(control, ResumeStream | Disconnect | PingClient | OutboundConnect), control
        stream_id, entries = control.stream_id, self.streams.setdefault(control.stream_id, [])
        if isinstance(control, ResumeStream):
            first = stream_id not in self.granted
            self.granted[stream_id] = self.granted.get(stream_id, 0) + control.credits
            if first:
                entries.append("first grant")
        else:
            entries.append(control)


class Replay:
    """Drives one core along one recorded session."""

    def __init__(self, test: SimpleTestCase, dialect: Dialect, lines: list[dict[str, Any]]) -> None:
        self.test = test
        self.lines = lines
        self.core = SessionCore(dialect, health=HealthTimes(inactivity=IDLE, pong=5))
        self.ours, self.theirs = Trace(), Trace()
        self.wanted: list[TokenNeeded] = []
        self.opened: list[bytes] = []
        self.received: dict[bytes, list[int]] = {}

    def run(self) -> None:
        self.take(self.core.start())
        for line in self.lines:
            now = line["t"]
            if line["dir"] == "node->client":
                if line["opcode"] == "text":
                    self.take(self.core.receive_text(line["text"], now))
                else:
                    self.take(self.core.receive_binary(message_of(line), now))
            elif line["dir"] == "client->node":
                self.play(line, now)
            self.collect()

    def take(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, TokenNeeded):
                self.wanted.append(event)
            elif isinstance(event, StreamOpened):
                self.opened.append(event.stream.id)
            elif isinstance(event, StreamData):
                self.received.setdefault(event.stream.id, []).append(len(event.payload))
                self.core.consumed(event.stream)

    def play(self, line: dict[str, Any], now: float) -> None:
        """Make the shell call that leads to what the reference sent."""
        if line["opcode"] == "text":
            self.theirs.add(line["text"])
            need = self.wanted.pop(0)
            self.core.send_token(need.stage, need.nonce, self.token(need, line["text"]), now)
            return
        message = message_of(line)
        self.theirs.add(message)
        if message[0] == frames.DATA:
            stream = self.core.streams[message[1:17]]
            self.test.assertTrue(stream.can_send())
            self.core.send_data(stream, message[17:], now)
            return
        control = messages.parse_control(message[1:])
        if isinstance(control, OutboundConnect):
            self.core.open_outbound(control.stream_id, control.target_addr, now)
        elif isinstance(control, PingClient):
            self.test.assertEqual(self.core.tick(now), [])
        elif isinstance(control, Disconnect) and control.stream_id in self.core.streams:
            self.core.end_stream(self.core.streams[control.stream_id], control.reason or "normal")

    def token(self, need: TokenNeeded, recorded_token: str) -> str:
        if self.core.dialect is Dialect.TOKEN:
            return recorded_token
        claims = parse_claims(self.lines[0]["text"]).claims
        options = AttestationOptions(reauth_interval=15, reauth_grace=5)
        return mint("lab", claims, options, SECRET, stage=need.stage, nonce=need.nonce)

    def collect(self) -> None:
        while self.core.outgoing():
            self.ours.add(self.core.outgoing().popleft())


class ReplayTests(SimpleTestCase):
    def replay(self, name: str, dialect: Dialect) -> Replay:
        replay = Replay(self, dialect, sessions(name)[0])
        replay.run()
        self.assertIs(replay.core.state, HandshakeState.OPEN)
        counters = replay.core.counters
        self.assertEqual((counters.malformed, counters.unknown_events, counters.unknown_streams), (0, 0, 0))
        self.assertEqual(counters.health_timeouts, 0)
        # Every stream that the node announced was opened, and got all of its data in order.
        announced, data = [], {}
        for line in replay.lines:
            if line["dir"] == "node->client" and line["opcode"] == "binary":
                message = message_of(line)
                control = messages.parse_control(message[1:])
                if message[0] == frames.DATA:
                    data.setdefault(message[1:17], []).append(len(message) - 17)
                elif isinstance(control, Connect) or (isinstance(control, OutboundResult) and control.success):
                    announced.append(control.stream_id)
        self.assertEqual(replay.opened, announced)
        self.assertEqual(replay.received, data)
        return replay

    def test_attested(self) -> None:
        replay = self.replay("attested", Dialect.ATTESTED)
        ours, theirs = replay.ours, replay.theirs
        self.assertEqual(ours.streams, theirs.streams)
        self.assertEqual(len(ours.streams), 12)
        for stream_id in replay.opened:
            self.assertEqual(theirs.granted[stream_id] % 8, 0)
            returned = ours.granted[stream_id] - len(replay.received.get(stream_id, ()))
            self.assertTrue(1 <= returned <= CEILING)
        self.assertEqual(set(ours.granted), set(theirs.granted))
        # Handshake, attested token, re-authentication: the same claims, and each its own nonce.
        self.assertEqual([timeless(text) for text in ours.texts], [timeless(text) for text in theirs.texts])
        self.assertEqual(len(ours.texts), 3)
        self.assertEqual(len({payload_of(text).get("session_nonce") for text in ours.texts}), 3)
        self.assertEqual(replay.core.counters.reauths, 1)

    def test_attested_handshake_comes_first_and_in_order(self) -> None:
        replay = Replay(self, Dialect.ATTESTED, sessions("attested")[0][:3])
        replay.run()
        self.assertEqual(len(replay.ours.texts), 2)
        self.assertEqual((replay.ours.streams, replay.core.state), ({}, HandshakeState.OPEN))

    def test_token(self) -> None:
        replay = self.replay("token", Dialect.TOKEN)
        ours, theirs = replay.ours, replay.theirs
        self.assertEqual(ours.texts, theirs.texts)
        self.assertEqual((ours.granted, theirs.granted), ({}, {}))
        self.assertEqual(list(ours.streams), list(theirs.streams))
        for stream_id, expected in theirs.streams.items():
            found = ours.streams[stream_id]
            # On purpose: a reason where the old client gave none.
            self.assertTrue(all(entry.reason for entry in found if isinstance(entry, Disconnect)))
            self.assertFalse(any(entry.reason for entry in expected if isinstance(entry, Disconnect)))
            bare = [Disconnect(stream_id) if isinstance(entry, Disconnect) else entry for entry in found]
            self.assertEqual(bare, expected, uuid.UUID(bytes=stream_id))

    def test_the_refused_token_of_the_old_node(self) -> None:
        lines = sessions("token")[1]
        replay = Replay(self, Dialect.TOKEN, lines)
        replay.run()
        self.assertEqual(replay.ours.texts, ["abc.def.ghi"])
        close = lines[-1]
        _, code = close["text"].split()
        ending = classify(
            int(code),
            "",
            token_sent=True,
            confirmed=replay.core.confirmed,
            since_token=close["t"] - lines[0]["t"],
        )
        self.assertIs(ending.kind, EndKind.LIKELY_REFUSED)
