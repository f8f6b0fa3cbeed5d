"""The states of a session and of an uplink, as tables."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final

from relay.protocol.states import Transitions


class SessionPhase(StrEnum):
    """What a session is for."""

    OPENING = "opening"
    UP = "up"
    REPLACED = "replaced"
    """A newer session is up; this one serves until a quiet instant."""
    DRAINING = "draining"
    """It is to end, and serves until it is closed."""
    ENDED = "ended"


class SessionStep(Enum):
    """What changes it."""

    TAKEN = "the node has taken the session"
    REPLACED = "a newer session is up"
    DRAINED = "it is to end"
    DRAIN_TAKEN_BACK = "it is to serve on"
    ENDED = "it has ended"


_SESSION_ENDED: Final = {SessionStep.ENDED: SessionPhase.ENDED}

SESSION_TRANSITIONS: Final[Transitions[SessionPhase, SessionStep]] = {
    SessionPhase.OPENING: {SessionStep.TAKEN: SessionPhase.UP} | _SESSION_ENDED,
    SessionPhase.UP: {SessionStep.REPLACED: SessionPhase.REPLACED, SessionStep.DRAINED: SessionPhase.DRAINING}
    | _SESSION_ENDED,
    SessionPhase.REPLACED: {SessionStep.DRAINED: SessionPhase.DRAINING} | _SESSION_ENDED,
    SessionPhase.DRAINING: {SessionStep.DRAIN_TAKEN_BACK: SessionPhase.UP} | _SESSION_ENDED,
    SessionPhase.ENDED: {},
}


class UplinkState(StrEnum):
    """What an uplink is doing."""

    CONNECTING = "connecting"
    UP = "up"
    WAITING = "waiting"
    """For the back-off, or for an edit."""
    REFUSED = "refused"
    """As `WAITING`, after the node refused the credentials: mostly nothing but an edit helps."""
    DRAINING = "draining"
    """It is on its way out."""


class UplinkStep(Enum):
    """What changes it."""

    ATTEMPT = "a session is being opened, and none is up"
    UP = "a session is up"
    PAUSE = "no session is up, and none is being opened"
    REFUSE = "the same, since the node refused the credentials"
    STOP = "it is to end"
    RESUME = "it is to serve on"


_SERVING: Final = {
    UplinkStep.ATTEMPT: UplinkState.CONNECTING,
    UplinkStep.UP: UplinkState.UP,
    UplinkStep.PAUSE: UplinkState.WAITING,
    UplinkStep.REFUSE: UplinkState.REFUSED,
    UplinkStep.STOP: UplinkState.DRAINING,
    UplinkStep.RESUME: UplinkState.CONNECTING,  # a stop that has not begun to act is taken back
}

UPLINK_TRANSITIONS: Final[Transitions[UplinkState, UplinkStep]] = {
    UplinkState.CONNECTING: _SERVING,
    UplinkState.UP: _SERVING,
    UplinkState.WAITING: _SERVING,
    UplinkState.REFUSED: _SERVING,
    UplinkState.DRAINING: {UplinkStep.STOP: UplinkState.DRAINING, UplinkStep.RESUME: UplinkState.CONNECTING},
}
