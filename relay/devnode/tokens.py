"""Tokens as the node checks them, and minting for tests and examples (docs/protocol.md, "Session", "Claims")."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.config import Claims
from relay.config.claim_rules import ClaimError, ClaimRules, is_number, is_whole
from relay.tokens.claims import AUDIENCE, ISSUER, TokenClaims, registered_problems
from relay.tokens.jwt import ANY_HMAC, TokenRefused, invalid_claims, read, sign, signature_is_invalid

NODE_RULES: Final = ClaimRules(
    hostname=lambda value: isinstance(value, str),
    port=is_whole,
    weight=is_whole,
    # Fractions never come from a real client; tests use them to be fast.
    seconds=lambda value: is_number(value) and value >= 0,  # type: ignore[operator]
)
"""What the node takes for a claim; a weight of 0 or less says nothing."""


def check_token(token: str, secret: str, *, attested: bool) -> TokenClaims:
    """Check a token signed with HS256, HS384 or HS512.

    Args:
        token: the text that the client sent.
        secret: the key.
        attested: whether ``iss`` and ``aud`` are checked; where not, a single ``hostname`` is taken and UDP is unknown.

    Raises:
        TokenRefused: with the reason that follows "token validation failed: ".
    """
    found = read(token, algorithms=ANY_HMAC)
    if not found.is_signed_with(secret.encode()):
        raise signature_is_invalid()
    return checked_claims(found.payload, attested=attested)


def checked_claims(payload: Mapping[str, Any], *, attested: bool) -> TokenClaims:
    """Check the claims of a token whose signature is good; those of the session are returned in order.

    Raises:
        TokenRefused: as `check_token`.
    """
    problems = list(registered_problems(payload, time.time(), needs_parties=attested))
    if problems:
        raise invalid_claims(", ".join(problems))
    unknown = "hostname" if attested else "udp_routes"
    known = {name: value for name, value in payload.items() if name != unknown}
    try:
        claims = _as_served(Claims.from_json(known, NODE_RULES))
        found = TokenClaims.from_json(known, NODE_RULES, claims)
    except ClaimError as error:
        raise TokenRefused(f"invalid claims: {error}") from None
    if not (claims.hostnames or claims.tcp_ports or claims.udp_routes):
        raise TokenRefused("invalid claims: token contains neither hostnames nor port claims")
    reserved = [name for name in claims.hostnames if name.startswith(("tcp:", "udp:"))]
    if reserved:
        raise TokenRefused(f"invalid claims: hostname {reserved[0][:20]} is reserved")
    if found.authorizer_status_uri and not found.authorizer_status_uri.lower().startswith("https://"):
        raise TokenRefused("invalid claims: authorizer_status_uri must use https scheme")
    if claims.allowed_outbound_ports and not claims.outbound_allowed:
        raise TokenRefused("invalid claims: allowed_outbound_ports without outbound_allowed")
    return found


def _as_served(claims: Claims) -> Claims:
    """Return the claims in order, without empty names, and with a weight of 1 or more."""
    names = tuple(name for name in claims.hostnames if name.strip().rstrip("."))
    return replace(claims, hostnames=names, weight=max(claims.weight, 1)).normalised()


def nonce_mismatch(expected: str, checked: TokenClaims) -> str:
    """Return the node's words about a token for another challenge."""
    return f"session nonce mismatch: expected {expected} got {checked.session_nonce or ''}"


def is_too_old(checked: TokenClaims) -> bool:
    """Tell whether a handshake token names a greatest age and is beyond it, or does not say when it was made."""
    if not checked.handshake_max_age:
        return False
    return checked.issued_at is None or time.time() - checked.issued_at > checked.handshake_max_age


def claims_the_same(frozen: Claims, checked: TokenClaims) -> bool:
    """Tell whether a later token claims what the session connected with; a weight of 0 or less says nothing."""
    claims = checked.claims if checked.weight_given else replace(checked.claims, weight=frozen.weight)
    return claims == frozen


def mint_token(secret: str, hostnames: Sequence[str] = (), *, lifetime: float = 30.0, **claims: Any) -> str:
    """Return an HS256 token as an attesting client mints it.

    Args:
        secret: the key.
        hostnames: the hostnames claimed.
        lifetime: seconds until ``exp``; negative for an expired one.
        claims: further claims; None leaves out one that would be there (``iss``, ``aud``, ``iat``, ``exp``).
    """
    now = int(time.time())
    body: dict[str, Any] = {"iss": ISSUER, "aud": [AUDIENCE], "iat": now, "exp": int(now + lifetime)}
    if hostnames:
        body["hostnames"] = list(hostnames)
    body |= claims
    return sign({name: value for name, value in body.items() if value is not None}, secret)
