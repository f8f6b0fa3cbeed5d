"""The handshake: its two dialects, and its states as a table (docs/protocol.md, "Session")."""

from __future__ import annotations

from enum import Enum
from typing import Final

from relay.protocol.states import Transitions


class Dialect(Enum):
    """Which generation of handshake the credential is for."""

    TOKEN = "token"  # noqa: S105 - the dialect's name
    ATTESTED = "attested"


class HandshakeState(Enum):
    """How far the handshake has come."""

    START = "start"
    AWAITING_CHALLENGE = "awaiting challenge"
    ATTESTING = "attesting"
    OPEN = "open"
    FAILED = "failed"


class HandshakeEvent(Enum):
    """What brings it further."""

    CLAIMED = "the first token of an attested handshake is sent"
    CHALLENGED = "the node's challenge came"
    PROVED = "the last token is sent"
    FAILED = "the session cannot go on"


HANDSHAKE: Final[Transitions[HandshakeState, HandshakeEvent]] = {
    HandshakeState.START: {
        HandshakeEvent.CLAIMED: HandshakeState.AWAITING_CHALLENGE,
        HandshakeEvent.PROVED: HandshakeState.OPEN,
        HandshakeEvent.FAILED: HandshakeState.FAILED,
    },
    HandshakeState.AWAITING_CHALLENGE: {
        HandshakeEvent.CHALLENGED: HandshakeState.ATTESTING,
        HandshakeEvent.FAILED: HandshakeState.FAILED,
    },
    HandshakeState.ATTESTING: {
        HandshakeEvent.PROVED: HandshakeState.OPEN,
        HandshakeEvent.FAILED: HandshakeState.FAILED,
    },
    HandshakeState.OPEN: {HandshakeEvent.FAILED: HandshakeState.FAILED},
    HandshakeState.FAILED: {},
}
