"""What is kept beside a pre-signed token, to be shown and compared without decrypting it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.views.decorators.debug import sensitive_variables

from relay.tokens.claims import parse_claims


@dataclass(frozen=True, slots=True)
class KeptClaims:
    """What a token says of itself, unverified.

    Attributes:
        expires_at: ``exp``; None where it has none, or none that a calendar holds.
        hostnames: what it may serve, as written there.
        as_json: `Claims.to_json`, and ``issued_at`` in ISO 8601 where it says that.
    """

    expires_at: datetime | None
    hostnames: tuple[str, ...]
    as_json: dict[str, Any]


@sensitive_variables("token")
def read_claims(token: str) -> KeptClaims:
    """Return the claims of a JWT without verifying it: the node does that, and we do not have its key.

    Raises:
        InvalidValue: the text is not a JWT; the message holds nothing of it.
    """
    found = parse_claims(token)
    claims = found.claims
    issued_at = _date(found.issued_at)
    said = claims.to_json() | ({"issued_at": issued_at.isoformat()} if issued_at else {})
    return KeptClaims(_date(found.expires_at), claims.hostnames, said)


def _date(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
