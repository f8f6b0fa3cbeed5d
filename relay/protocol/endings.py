"""What the end of a session means, and what an operator can do about it (docs/protocol.md, "Session")."""

from __future__ import annotations

import re
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
    if "remote verifier" in words:
        outage = _outage_of(words)
        if outage:
            return Ending(EndKind.VERIFIER_AWAY, f"{outage}: {reason}; {_NOT_THE_CREDENTIALS}")
    if code == POLICY_VIOLATION:
        return Ending(EndKind.REFUSED, f"node refused the credentials: {reason or 'no reason given'}{_remedy(words)}")
    if token_sent and not confirmed and since_token < times.refusal_window:
        detail = f" (close code {code}{': ' + reason if reason else ''})" if code != 1006 else ""
        return Ending(
            EndKind.LIKELY_REFUSED,
            f"node ended the session right after its token{detail} without a word: it was stopped, its own verifier is "
            "out of reach, or it refuses the token",
        )
    if code == 1006:
        return Ending(EndKind.LOST, "connection to the node broke without a close frame")
    return Ending(EndKind.LOST, f"node closed the session: {code} {reason}".rstrip())


LIKELY_REMEDY: Final = (
    "; this goes on: check that the token is not expired, that its key is the node's, that iss and aud are set, and "
    "that the node reaches its verifier, where it has one"
)
"""What is said behind the words of a likely refusal that is believed."""

_NOT_THE_CREDENTIALS: Final = "this backend's token and key are not in question"

_STATUS: Final = re.compile(r"remote verifier [a-z ]*status (\d{3})")

_NODES_OWN_FAULT: Final = frozenset({401, 403, 404})
"""A verifier's answers to a node that it does not know, or that asks at the wrong address."""


def _outage_of(words: str) -> str:
    """Say what is wrong with the node's verifier; nothing where the verifier has refused the token."""
    status = _STATUS.search(words)
    if status is None:
        return "the node's own verifier is out of reach" if "request failed" in words else ""
    code = int(status[1])
    if code in _NODES_OWN_FAULT or 300 <= code < 400:
        return "the node's own verifier turns the node away: correct its address or secret in the node's configuration"
    if code >= 500 or code in (408, 429):
        return "the node's own verifier is out of order"
    return ""


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
