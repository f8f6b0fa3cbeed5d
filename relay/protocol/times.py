"""Times of the protocol's core (seconds)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class HealthTimes:
    """When an idle stream is probed and when it is given up (seconds); ``inactivity`` 0 switches it off."""

    inactivity: float = 60.0
    pong: float = 5.0


@dataclass(frozen=True, slots=True)
class ProtocolTimes:
    """How long the core waits, and for what (seconds).

    Attributes:
        challenge_timeout: for the node's challenge. The node may ask a verifier first, for up to 10 s.
        quiet_after: without data from the user; after that a stream lends its credits to the others.
        refusal_window: after our last token; an end without any frame within it means that the token was refused.
    """

    challenge_timeout: float = 20.0
    quiet_after: float = 2.0
    refusal_window: float = 5.0
