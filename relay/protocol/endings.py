"""What the end of a session means, and what an operator can do about it (docs/protocol.md, "Session")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.protocol.events import EndKind
from relay.protocol.times import ProtocolTimes

POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended.

    Attributes:
        kind: decides what happens next.
        message: for the operator: what happened and, where there is one, the remedy.
    """

    kind: EndKind
    message: str


def classify(
    code: int,
    reason: str,
    *,
    token_sent: bool,
    confirmed: bool,
    since_token: float,
    times: ProtocolTimes = ProtocolTimes(),
) -> Ending:
    """Say what a WebSocket that the node ended means.

    Args:
        code: close code, 1006 for an abrupt end.
        reason: the close frame's reason.
        token_sent: whether a token had been sent on this connection.
        confirmed: whether the node had sent a frame that only an accepted session gets.
        since_token: seconds since the last token was sent.
    """
    words = reason.lower()
    if "rate limit" in words:
        return Ending(EndKind.RATE_LIMITED, f"node limits the rate of sessions: {reason}")
    if code == POLICY_VIOLATION:
        return Ending(EndKind.REFUSED, f"node refused the credentials: {reason or 'no reason given'}{_remedy(words)}")
    if token_sent and not confirmed and since_token < times.refusal_window:
        detail = f" (close code {code}{': ' + reason if reason else ''})" if code != 1006 else ""
        return Ending(
            EndKind.LIKELY_REFUSED,
            f"node ended the session right after its token{detail}: most likely it refused it; check that the token "
            "is not expired, that its key is the node's, and that iss and aud are set",
        )
    if code == 1006:
        return Ending(EndKind.LOST, "connection to the node broke without a close frame")
    return Ending(EndKind.LOST, f"node closed the session: {code} {reason}".rstrip())


_REMEDIES: Final = (
    ("expired", "; give this backend a fresh token, and check both clocks"),
    ("signature is invalid", "; the key is not the node's: correct the HMAC secret, or have the token signed again"),
    ("nonce mismatch", "; the token must carry the challenge's nonce (NEXUS_SESSION_NONCE) as session_nonce"),
    ("malformed", "; the credential is not a complete JWT"),
    ("expected text frame", "; the node speaks another dialect than this credential is for"),
    ("hostname", "; the token's hostnames are not what the node takes"),
    ("port", "; the node's allow-list lacks a claimed port"),
)


def _remedy(words: str) -> str:
    return next((remedy for sign, remedy in _REMEDIES if sign in words), "")
