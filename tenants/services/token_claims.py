"""Reads what a pre-signed token claims. Nothing here verifies it: the node does, and we do not have its key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt

from relay.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims that are kept beside a token.

    Attributes:
        expires_at: ``exp``; None where the token has none that is a date.
        hostnames: ``hostnames``, or ``hostname`` alone (PROTOCOL.md, "Claims"), as they stand there.
    """

    expires_at: datetime | None
    hostnames: tuple[str, ...]


def read_claims(token: str) -> TokenClaims:
    """Return the claims of a JWT without verifying it.

    Raises:
        InvalidValue: the text is no JWT; the message holds nothing of it.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise InvalidValue(
            "token",
            "(not shown)",
            "is no JWT",
            "paste the whole token: three parts of letters, digits, - and _ with dots between them",
        ) from None
    found = claims.get("hostnames")
    hostnames = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    single = claims.get("hostname")
    if isinstance(single, str) and single and single not in hostnames:
        hostnames.append(single)
    return TokenClaims(_date(claims.get("exp")), tuple(hostnames))


def _date(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
