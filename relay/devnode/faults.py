"""How a development node misbehaves when it is told to; everything can be changed while it runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from websockets.frames import Frame, Opcode

from relay.protocol.frames import control_frame, data_frame
from relay.protocol.messages import Connect, encode


@dataclass(slots=True)
class Faults:
    """Standing misbehaviour of a `DevNode`.

    Attributes:
        refuse_reason: refuse every token with these words (a Close 1008 where they fit, else an abrupt end).
        refuse_abruptly: refuse every token by dropping the socket.
        never_challenge: take the handshake token and say nothing.
        challenge_delay: seconds before the handshake challenge.
        empty_nonce: send challenges whose nonce is empty.
        accept_delay: seconds before the WebSocket handshake is answered.
        drop_connects: how many of the next ``connect`` messages get lost (their data does not).
        drop_disconnects: how many of the next ``disconnect`` messages get lost.
        ignore_pings: do not answer ``ping_client``.
    """

    refuse_reason: str | None = None
    refuse_abruptly: bool = False
    never_challenge: bool = False
    challenge_delay: float = 0.0
    empty_nonce: bool = False
    accept_delay: float = 0.0
    drop_connects: int = 0
    drop_disconnects: int = 0
    ignore_pings: bool = False

    def loses_connect(self) -> bool:
        """Whether the ``connect`` at hand gets lost."""
        if self.drop_connects <= 0:
            return False
        self.drop_connects -= 1
        return True

    def loses_disconnect(self) -> bool:
        """Whether the ``disconnect`` at hand gets lost."""
        if self.drop_disconnects <= 0:
            return False
        self.drop_disconnects -= 1
        return True


def _control(body: object) -> Frame:
    return Frame(Opcode.BINARY, control_frame(json.dumps(body).encode()))


def _connect_json(**changes: object) -> Frame:
    body: dict[str, object] = {"event": "connect", "client_id": str(uuid.uuid4()), "conn_port": 1, "hostname": "x.test"}
    return _control(body | changes)


def _huge_numbers() -> Iterator[Frame]:
    yield Frame(Opcode.BINARY, control_frame(b'{"event":"connect","conn_port":' + b"9" * 10_000 + b"}"))
    yield _connect_json(credits=2**70)
    yield _connect_json(conn_port=2**40)
    yield Frame(Opcode.BINARY, control_frame(b'{"event":"resume_stream","credits":1e999}'))


def _wrong_types() -> Iterator[Frame]:
    yield _connect_json(client_id=7)
    yield _connect_json(client_id="not-a-uuid")
    yield _connect_json(conn_port="443")
    yield _connect_json(hostname=["x"])
    yield _connect_json(credits="64")
    yield _connect_json(is_tls="yes")
    yield _connect_json(transport="sctp")
    yield _control([])
    yield _control("connect")
    yield _control({"event": {"connect": 1}})


def _short() -> Iterator[Frame]:
    yield Frame(Opcode.BINARY, b"")
    yield Frame(Opcode.BINARY, b"\x01")
    yield Frame(Opcode.BINARY, b"\x01" + b"\x00" * 15)
    yield Frame(Opcode.BINARY, b"\x02")


def _fragmented() -> Iterator[Frame]:
    """A ``connect`` for a host that no session serves, in three pieces."""
    body = Connect(uuid.uuid4().bytes, hostname="fragmented.invalid", conn_port=1, client_ip="192.0.2.1:1", credits=64)
    message = control_frame(encode(body))
    third = len(message) // 3
    yield Frame(Opcode.BINARY, message[:third], fin=False)
    yield Frame(Opcode.CONT, message[third : 2 * third], fin=False)
    yield Frame(Opcode.CONT, message[2 * third :])


GARBAGE: dict[str, Callable[[], Iterator[Frame]]] = {
    "text": lambda: iter([Frame(Opcode.TEXT, b"garbage"), Frame(Opcode.TEXT, b"{}"), Frame(Opcode.TEXT, b"")]),
    "unknown_challenge": lambda: iter([Frame(Opcode.TEXT, b'{"type":"other_challenge","nonce":"x"}')]),
    "bad_utf8": lambda: iter([Frame(Opcode.TEXT, b"\xff\xfe")]),
    "binary": lambda: iter([Frame(Opcode.BINARY, bytes(range(3, 256)))]),
    "bad_json": lambda: iter([Frame(Opcode.BINARY, b"\x02{"), Frame(Opcode.BINARY, b"\x02\xff{}")]),
    "nested_json": lambda: iter([Frame(Opcode.BINARY, b"\x02" + b"[" * 30_000)]),
    "huge_numbers": _huge_numbers,
    "wrong_types": _wrong_types,
    "short": _short,
    "unknown_event": lambda: iter([_control({"event": "dance", "client_id": str(uuid.uuid4())})]),
    "unknown_stream": lambda: iter([Frame(Opcode.BINARY, data_frame(uuid.uuid4().bytes, b"x"))] * 3),
    "oversize": lambda: iter([Frame(Opcode.BINARY, data_frame(uuid.uuid4().bytes, b"x" * (1024 * 1024)))]),
    "fragmented": _fragmented,
    "bad_continuation": lambda: iter([Frame(Opcode.CONT, b"x")]),
}
"""Named garbage that `DevNode.send_garbage` sends: raw WebSocket frames."""
