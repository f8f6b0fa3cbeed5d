"""Control messages and challenges: JSON in, frozen values out, and back (docs/protocol.md, "Binary frames", "Session").

Parsing never raises: what a node sends is either a message that we know, `Unknown` (ignored, as the protocol asks),
`TooLong` or `Malformed` (all three are counted). Absent fields have their zero value; unknown fields are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

MAX_GRANT: Final = 2**20
"""Grants above this are ignored (docs/protocol.md, "Flow control")."""

MAX_TARGET_ADDRESS: Final = 260
"""Characters in ``outbound_connect``'s ``target_addr``."""

MAX_JSON: Final = 4096
"""Bytes of JSON that are looked at. Real control messages have a few hundred, but for a ``connect`` whose host name,
which a stranger chose, is longer than any in the DNS (`TooLong`)."""

MAX_TEXT: Final = 1024
"""Characters that are kept of a name or a reason from the node."""


class Reason:
    """Disconnect reasons (docs/protocol.md, "Binary frames")."""

    NORMAL: Final = "normal"
    BUFFER_FULL: Final = "buffer_full"
    DIAL_FAILED: Final = "dial_failed"
    TIMEOUT: Final = "timeout"
    LOCAL_ERROR: Final = "local_error"
    SHUTDOWN: Final = "shutdown"
    SESSION_ENDED: Final = "session_ended"
    PAUSE_VIOLATED: Final = "pause_violated"
    UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Connect:
    """node → client: a new stream. ``credits`` is None where the node sets no limit."""

    stream_id: bytes
    hostname: str = ""
    conn_port: int = 0
    client_ip: str = ""
    transport: str = "tcp"
    is_tls: bool = False
    credits: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Both ways: the stream is over, after all of its data."""

    stream_id: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PingClient:
    """client → node: is this stream alive at the node?"""

    stream_id: bytes


@dataclass(frozen=True, slots=True)
class PongClient:
    """node → client: it is."""

    stream_id: bytes


@dataclass(frozen=True, slots=True)
class PauseStream:
    """client → node: stop reading from that user."""

    stream_id: bytes


@dataclass(frozen=True, slots=True)
class ResumeStream:
    """Both ways: go on; with ``credits`` > 0 a grant of that many data messages."""

    stream_id: bytes
    credits: int = 0


@dataclass(frozen=True, slots=True)
class OutboundConnect:
    """client → node: dial ``target_addr`` from the node."""

    stream_id: bytes
    target_addr: str


@dataclass(frozen=True, slots=True)
class OutboundResult:
    """node → client: the dial's outcome."""

    stream_id: bytes
    success: bool = False
    reason: str = ""
    credits: int | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """node → client, text frame: prove yourself with a token that holds ``nonce``."""

    type: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Well-formed, but of a type that we do not know: ignored."""

    kind: str


@dataclass(frozen=True, slots=True)
class TooLong:
    """A ``connect`` that is too long to be looked at: its user is told, and the node is not to blame."""

    stream_id: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not what the protocol allows: counted and ignored."""

    problem: str


ControlMessage = (
    Connect | Disconnect | PingClient | PongClient | PauseStream | ResumeStream | OutboundConnect | OutboundResult
)


HANDSHAKE_CHALLENGE: Final = "handshake_challenge"
REAUTH_CHALLENGE: Final = "reauth_challenge"


def stream_id_text(stream_id: bytes) -> str:
    """Return a stream id (16 bytes) as UUID text; a third of what ``str(uuid.UUID(…))`` takes."""
    digits = stream_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def encode(message: ControlMessage) -> bytes:
    """Return the JSON body of a control message, without its type byte."""
    body: dict[str, Any] = {"event": _EVENTS[type(message)], "client_id": stream_id_text(message.stream_id)}
    match message:
        case Connect():
            body |= {"conn_port": message.conn_port, "client_ip": message.client_ip}
            if message.transport:
                body["transport"] = message.transport
            body["hostname"] = message.hostname
            if message.is_tls:
                body["is_tls"] = True
            if message.credits is not None:
                body["credits"] = message.credits
        case Disconnect():
            if message.reason:
                body["reason"] = message.reason
        case ResumeStream():
            if message.credits:
                body["credits"] = message.credits
        case OutboundConnect():
            body["target_addr"] = message.target_addr
        case OutboundResult():
            if message.success:
                body["success"] = True
            if message.reason:
                body["reason"] = message.reason
            if message.credits is not None:
                body["credits"] = message.credits
    return _encode(body).encode()


Parsed = ControlMessage | Unknown | TooLong | Malformed
"""What a control message was, whatever came."""


def parse_control(body: bytes | bytearray | memoryview) -> Parsed:
    """Parse the JSON body of a control message. Never raises."""
    if len(body) > MAX_JSON:
        return _too_long(bytes(body[:_HEAD]))
    try:
        # Decoded here: left to itself, json would also take UTF-16, UTF-32 and encoded surrogates.
        fields = _load_object(bytes(body).decode())
    except UnicodeDecodeError:
        return Malformed("not UTF-8")
    if isinstance(fields, Malformed):
        return fields
    event = fields.get("event")
    if not isinstance(event, str):
        return Malformed("event is not a string")
    parser = _PARSERS.get(event)
    if parser is None:
        return Unknown(event[:64])
    try:
        return parser(_stream_id(_text(fields, "client_id")), fields)
    except _WrongType as error:
        return Malformed(str(error))


def parse_challenge(text: str) -> Challenge | Unknown | Malformed:
    """Parse a text frame of the node. Never raises; an empty nonce is `Malformed`."""
    fields = _load_object(text)
    if isinstance(fields, Malformed):
        return fields
    kind = fields.get("type")
    if not isinstance(kind, str):
        return Malformed("type is not a string")
    if kind not in (HANDSHAKE_CHALLENGE, REAUTH_CHALLENGE):
        return Unknown(kind[:64])
    nonce = fields.get("nonce")
    if not isinstance(nonce, str) or not nonce or len(nonce) > MAX_TEXT:
        return Malformed("nonce is empty or not a string")
    return Challenge(kind, nonce)


_HEAD: Final = 512
_CONNECT: Final = re.compile(rb'"event" ?: ?"connect"')
_CLIENT_ID: Final = re.compile(rb'"client_id" ?: ?"([0-9a-fA-F-]{36})"')


def _too_long(head: bytes) -> TooLong | Malformed:
    """Find whose ``connect`` it is by what stands before the long name, in which JSON has each quote escaped."""
    found = _CLIENT_ID.search(head) if _CONNECT.search(head) else None
    if found is None:
        return Malformed("JSON too long")
    try:
        return TooLong(_stream_id(found[1].decode()))
    except _WrongType as error:
        return Malformed(str(error))


class _WrongType(Exception):
    pass


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # NaN and Infinity are not JSON


def _load_object(text: str) -> dict[str, Any] | Malformed:
    if len(text) > MAX_JSON:
        return Malformed("JSON too long")
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        # ValueError covers bad JSON and integers with more digits than Python converts.
        return Malformed("not JSON")
    return value if isinstance(value, dict) else Malformed("not a JSON object")


def _stream_id(text: str) -> bytes:
    # uuid.UUID would also take braces, "urn:uuid:", signs and underscores, and is slower.
    try:
        stream_id = bytes.fromhex(text.replace("-", "")) if len(text) == 36 else b""
    except ValueError:
        stream_id = b""
    if len(stream_id) != 16:
        raise _WrongType("client_id is not a UUID")
    return stream_id


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _WrongType(f"{name} is not a string")
    value = value[:MAX_TEXT]
    # JSON may spell lone surrogates, which no encoder and no log takes.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _WrongType(f"{name} is not a boolean")
    return value


def _number(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongType(f"{name} is not a whole number")
    return value


def _credits(fields: dict[str, Any]) -> int | None:
    """Return the grant; None where there is none, or one out of range (docs/protocol.md, "Flow control")."""
    value = _number(fields, "credits")
    return value if value is not None and 0 < value <= MAX_GRANT else None


def _connect(stream_id: bytes, fields: dict[str, Any]) -> Connect | Malformed:
    port = _number(fields, "conn_port") or 0
    if not 0 <= port <= 65535:
        return Malformed("conn_port is out of range")
    transport = _text(fields, "transport") or "tcp"
    if transport not in ("tcp", "udp"):
        return Malformed("transport is neither tcp nor udp")
    return Connect(
        stream_id,
        hostname=_text(fields, "hostname"),
        conn_port=port,
        client_ip=_text(fields, "client_ip"),
        transport=transport,
        is_tls=_flag(fields, "is_tls"),
        credits=_credits(fields),
    )


_PARSERS: Final[dict[str, Callable[[bytes, dict[str, Any]], ControlMessage | Malformed]]] = {
    "connect": _connect,
    "disconnect": lambda stream_id, fields: Disconnect(stream_id, _text(fields, "reason")),
    "ping_client": lambda stream_id, fields: PingClient(stream_id),
    "pong_client": lambda stream_id, fields: PongClient(stream_id),
    "pause_stream": lambda stream_id, fields: PauseStream(stream_id),
    "resume_stream": lambda stream_id, fields: ResumeStream(stream_id, _credits(fields) or 0),
    "outbound_connect": lambda stream_id, fields: OutboundConnect(
        stream_id, _text(fields, "target_addr")[:MAX_TARGET_ADDRESS]
    ),
    "outbound_result": lambda stream_id, fields: OutboundResult(
        stream_id, _flag(fields, "success"), _text(fields, "reason"), _credits(fields)
    ),
}

_EVENTS: Final = {
    Connect: "connect",
    Disconnect: "disconnect",
    PingClient: "ping_client",
    PongClient: "pong_client",
    PauseStream: "pause_stream",
    ResumeStream: "resume_stream",
    OutboundConnect: "outbound_connect",
    OutboundResult: "outbound_result",
}
