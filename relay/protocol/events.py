"""What the core of a session tells the shell around it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relay.protocol.stream import StreamState


class Stage(Enum):
    """What a token is for (docs/protocol.md, "The attestation command")."""

    HANDSHAKE = "handshake"
    ATTEST = "attest"
    REAUTH = "reauth"


class EndKind(Enum):
    """Why a session ended, as far as it decides what happens next."""

    CLOSED = "closed"
    """We closed it."""
    LOST = "lost"
    """The connection broke, or never came about: retry with back-off."""
    REFUSED = "refused"
    """The node did not take the credentials: retry slowly, and at once when they change."""
    LIKELY_REFUSED = "likely refused"
    """It looks like a refusal, but a node that just went away looks the same: believe it when it repeats."""
    VERIFIER_AWAY = "verifier_away"
    """The node could not have the token checked, or is turned away by its verifier: no fault of the credentials."""
    RATE_LIMITED = "rate_limited"
    """The node asks for patience: retry after a minute."""
    WRONG_DIALECT = "wrong_dialect"
    """Node and credential do not fit; only a new credential cures it."""


@dataclass(frozen=True, slots=True)
class TokenNeeded:
    """The shell must get a token and hand it to `SessionCore.send_token`."""

    stage: Stage
    nonce: str


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A user connected, or (``outbound``) the node dialled for us."""

    stream: StreamState


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes for the target: a view of the message that was received, valid as long as that."""

    stream: StreamState
    payload: memoryview


@dataclass(frozen=True, slots=True)
class StreamWritable:
    """Credits arrived for a stream that had none."""

    stream: StreamState


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over and forgotten; what was received before still goes to the target."""

    stream: StreamState
    reason: str


@dataclass(frozen=True, slots=True)
class OutboundFailed:
    """The node did not dial for us. The stream is forgotten."""

    stream: StreamState
    reason: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session cannot go on: close it, and treat the end as ``kind``."""

    kind: EndKind
    problem: str


Event = TokenNeeded | StreamOpened | StreamData | StreamWritable | StreamEnded | OutboundFailed | SessionFailed
