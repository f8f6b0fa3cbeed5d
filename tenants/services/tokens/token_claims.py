"""What is kept beside a pre-signed token, to be shown and compared without decrypting it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.views.decorators.debug import sensitive_variables

from relay.tokens.sources import parse_claims


@dataclass(frozen=True, slots=True)
class KeptClaims:
    """What a token says of itself, unverified.

    Attributes:
        expires_at: ``exp``; None where it has none, or none that a calendar holds.
        hostnames: what it may serve, as it stands there.
        as_json: all that a node looks at, for people to read: JSON values by the name of the claim.
    """

    expires_at: datetime | None
    hostnames: tuple[str, ...]
    as_json: dict[str, Any]


@sensitive_variables("token")
def read_claims(token: str) -> KeptClaims:
    """Return the claims of a JWT without verifying it: the node does that, and we do not have its key.

    Raises:
        InvalidValue: the text is no JWT; the message holds nothing of it.
    """
    found = parse_claims(token)
    claims = found.claims
    issued_at = _date(found.issued_at)
    said: dict[str, Any] = {
        "hostnames": list(claims.hostnames),
        "weight": claims.weight,
        "tcp_ports": list(claims.tcp_ports),
        "udp_routes": [route.port for route in claims.udp_routes],
        "outbound_allowed": claims.outbound_allowed,
        "allowed_outbound_ports": list(claims.allowed_outbound_ports),
        "issued_at": issued_at.isoformat() if issued_at else None,
    }
    return KeptClaims(_date(found.expires_at), claims.hostnames, said)


def _date(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
