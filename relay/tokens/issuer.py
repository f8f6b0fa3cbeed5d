"""What an issuer of tokens gives: a token and when it expires, or an error for the operator."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from relay.config import Claims
from relay.errors import InvalidValue
from relay.protocol.events import Stage
from relay.tokens.claims import parse_claims
from relay.tokens.jwt import MAX_TOKEN

Issued = tuple[str, float]
"""A token and the instant (seconds since the epoch) at which it expires, infinity where that is unknown."""

Issuer = Callable[[Stage, str, Claims], Awaitable[Issued]]
"""Gives the token for a stage, a nonce (empty at handshake) and the claims of the session; raises `TokenError`."""


class TokenError(Exception):
    """A token that could not be had. The message is for the operator and holds no secret."""


def with_expiry(token: str, gave: str) -> Issued:
    """Return a token with the expiry that it states.

    Args:
        gave: who gave it, for the error.

    Raises:
        TokenError: it is too long for a node, or not in ASCII.
    """
    if len(token) > MAX_TOKEN or not token.isascii():
        raise TokenError(f"{gave} something that is not a token")
    try:
        stated = parse_claims(token).expires_at
    except InvalidValue:
        stated = None
    return token, math.inf if stated is None else stated
