"""A token as the verifier reads it: strictly, and answered with what was understood of it.

Nothing here knows a key. What is read is what its signature is checked over, and nothing else of it is ever used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from relay.config import Claims
from relay.config.claim_rules import ClaimError
from relay.tokens.claims import TokenClaims, in_normal_form
from relay.tokens.jwt import Jwt, TokenRefused, read, signature_is_invalid
from tenants.services.tokens.issue import token_hash
from tenants.validators import KEY_ID

LEEWAY: Final = 5.0
"""Seconds that clocks may differ."""

LONGEST_POSTPONEMENT: Final = 24 * 3_600
"""Seconds that a node may postpone a re-authentication at most, whatever the token says: a revocation must count."""


@dataclass(frozen=True, slots=True)
class ReadToken:
    """A token as it was sent, taken apart.

    Attributes:
        kid: of the key, from the header; empty for none.
        digest: SHA-256 of the whole token.
    """

    jwt: Jwt = field(repr=False)
    kid: str
    digest: str

    @property
    def payload(self) -> Mapping[str, Any]:
        """Its claims, unverified."""
        return self.jwt.payload


def read_token(text: str) -> ReadToken:
    """Take a token apart.

    Raises:
        TokenRefused: it is not a JWT, or is not signed with HS256.
    """
    found = read(text)
    kid = found.header.get("kid", "")
    if "kid" in found.header and not (isinstance(kid, str) and KEY_ID.fullmatch(kid)):
        raise signature_is_invalid()
    return ReadToken(found, kid, token_hash(text))


def claims_of(payload: Mapping[str, Any]) -> Claims:
    """Return what the token claims, hostnames in their normal form, everything sorted.

    Raises:
        TokenRefused: a claim is not of its type.
    """
    try:
        return in_normal_form(Claims.from_json(payload))
    except ClaimError as error:
        raise TokenRefused(f"invalid claims: {error}") from None


def token_claims(payload: Mapping[str, Any], claims: Claims) -> TokenClaims:
    """Return all that the token says.

    Args:
        claims: those of `claims_of`.

    Raises:
        TokenRefused: a claim is not of its type.
    """
    try:
        return TokenClaims.from_json(payload, claims=claims)
    except ClaimError as error:
        raise TokenRefused(f"invalid claims: {error}") from None


def with_one_name(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the claims with one hostname only: enough to find whose the token may be, and IDNA costs time."""
    names = payload.get("hostnames")
    return {**payload, "hostnames": names[:1], "hostname": None} if isinstance(names, list) and names else payload


def answered(told: TokenClaims, subject: str, status_uri: str) -> dict[str, Any]:
    """Return the claims that the node is told: those of the protocol, as they were understood, and nothing else.

    Args:
        subject: in place of the token's own, which may be another tenant's name.
        status_uri: in place of the token's own. A tenant that names its own could keep revoked sessions alive.
    """
    cap = told.maintenance_grace_cap
    return replace(
        told,
        subject=None if told.subject is None else subject,
        authorizer_status_uri=status_uri or None if told.authorizer_status_uri else None,
        maintenance_grace_cap=None if cap is None else min(cap, LONGEST_POSTPONEMENT),
    ).to_json()
