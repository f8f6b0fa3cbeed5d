"""What a token says: the claims of a session, and the registered ones beside them (docs/protocol.md, "Claims")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.config import Claims
from relay.config.claim_rules import LENIENT, STRICT, ClaimError, ClaimRules, is_number, is_printable
from relay.config.hostnames import normalise_pattern
from relay.errors import InvalidValue
from relay.tokens.jwt import TokenRefused, invalid_claims, read

ISSUER: Final = "authorizer"
AUDIENCE: Final = "nexus"

MOST_NONCE: Final = 256
MOST_TEXT: Final = 500
MOST_INSTANT: Final = 1e12

_SECONDS: Final = {
    "handshake_max_age_seconds": "handshake_max_age",
    "reauth_interval_seconds": "reauth_interval",
    "reauth_grace_seconds": "reauth_grace",
    "maintenance_grace_cap_seconds": "maintenance_grace_cap",
}
_TEXTS: Final = {
    "session_nonce": ("session_nonce", MOST_NONCE),
    "policy_version": ("policy_version", MOST_TEXT),
    "authorizer_status_uri": ("authorizer_status_uri", MOST_TEXT),
    "jti": ("token_id", MOST_TEXT),
    "sub": ("subject", MOST_TEXT),
}
_INSTANTS: Final = {"exp": "expires_at", "iat": "issued_at", "nbf": "not_before"}


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says of itself; None for what it does not say.

    Attributes:
        claims: what a session that authenticates with it serves.
        weight_given: whether the token names the weight.
        expires_at: ``exp``, seconds since the epoch, as are ``iat`` and ``nbf``.
        issued_at: ``iat``.
        not_before: ``nbf``.
        subject: ``sub``.
        token_id: ``jti``.
        session_nonce: the node's challenge that the token answers.
        handshake_max_age: seconds, as are the three behind it.
        authorizer_status_uri: what the node asks before a re-authentication.
    """

    claims: Claims
    weight_given: bool = True
    expires_at: float | None = None
    issued_at: float | None = None
    not_before: float | None = None
    subject: str | None = None
    token_id: str | None = None
    session_nonce: str | None = None
    handshake_max_age: float | None = None
    reauth_interval: float | None = None
    reauth_grace: float | None = None
    maintenance_grace_cap: float | None = None
    authorizer_status_uri: str | None = None
    policy_version: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the payload of a token from an authorizer for a node: JSON values by the name of the claim."""
        found = self.claims.to_json()
        if not self.weight_given:
            del found["weight"]
        named = _SECONDS | {name: attribute for name, (attribute, _) in _TEXTS.items()}
        found |= {name: value for name, attr in named.items() if (value := getattr(self, attr)) is not None}
        for name, attribute in _INSTANTS.items():
            if (instant := getattr(self, attribute)) is not None:
                found[name] = int(instant)
        return found | {"iss": ISSUER, "aud": [AUDIENCE]}

    @classmethod
    def from_json(
        cls, payload: Mapping[str, Any], rules: ClaimRules = STRICT, claims: Claims | None = None
    ) -> TokenClaims:
        """Read the payload of a token; who issued it and for whom is `registered_problems`' business.

        Args:
            claims: those of the session, where they have been read already.

        Raises:
            ClaimError: a claim is not of its type.
        """
        found: dict[str, Any] = {}
        for name, attribute in _SECONDS.items():
            if name in payload:
                if not rules.seconds(payload[name]):
                    raise ClaimError(name, "a whole number of seconds")
                found[attribute] = payload[name]
        for name, (attribute, most) in _TEXTS.items():
            if name in payload and (payload[name] or attribute != "authorizer_status_uri"):
                text = payload[name]
                if not is_printable(text) or len(text) > most:
                    raise ClaimError(name, f"a string of at most {most} characters")
                found[attribute] = text
        for name, attribute in _INSTANTS.items():
            if payload.get(name) is not None:
                if not _is_instant(payload[name]):
                    raise ClaimError(name, "seconds since the epoch")
                found[attribute] = float(payload[name])
        return cls(
            Claims.from_json(payload, rules) if claims is None else claims,
            # Where less than 1 is taken at all, it stands for no weight.
            weight_given=payload.get("weight", 0) >= 1,
            **found,
        )


def parse_claims(token: str) -> TokenClaims:
    """Read a JWT of any issuer without verifying it: the claims of the session, ``exp`` and ``iat``.

    Raises:
        InvalidValue: it is not a JWT, or a claim has a type that no node takes. The message does not hold the token.
    """
    try:
        payload = read(token.strip(), lenient=True).payload
    except TokenRefused:
        raise _invalid("is not a JWT", "give the complete signed token, three parts joined by dots") from None
    try:
        claims = Claims.from_json(payload, LENIENT)
    except ClaimError as error:
        raise _invalid(f"has a {error.claim} claim that is not {error.wanted}", "have it signed again") from None
    return TokenClaims(claims, expires_at=_any_instant(payload.get("exp")), issued_at=_any_instant(payload.get("iat")))


def in_normal_form(claims: Claims) -> Claims:
    """Return the claims with every hostname in its normal form, and in an order that compares.

    Raises:
        InvalidValue: a name cannot be a hostname.
    """
    return replace(claims, hostnames=tuple(map(normalise_pattern, claims.hostnames))).normalised()


def registered_problems(
    payload: Mapping[str, Any],
    now: float,
    *,
    leeway: float = 0.0,
    needs_expiry: bool = False,
    needs_parties: bool = True,
    issued_before: bool = False,
) -> Iterator[str]:
    """Yield, in the node's words, why a token is not for now, or not from an authorizer for a node.

    Args:
        now: seconds since the epoch.
        leeway: seconds that clocks may differ.
        needs_expiry: whether a token without ``exp`` has a problem.
        needs_parties: whether ``iss`` and ``aud`` are looked at.
        issued_before: whether ``iat`` is looked at.
    """
    instants = {name: payload.get(name) for name in _INSTANTS}
    yield from (f"{name} is not an instant" for name, at in instants.items() if not (at is None or _is_instant(at)))
    usable = {name: float(at) for name, at in instants.items() if at is not None and _is_instant(at)}
    if needs_expiry and instants["exp"] is None:
        yield "token is missing required claim: exp claim is required"
    if usable.get("exp", math.inf) + leeway <= now:
        yield "token is expired"
    if usable.get("nbf", -math.inf) - leeway > now:
        yield "token is not valid yet"
    if issued_before and usable.get("iat", -math.inf) - leeway > now:
        yield "token used before issued"
    if needs_parties:
        yield from _party_problems(payload.get("aud"), payload.get("iss"))


def check_registered(payload: Mapping[str, Any], now: float, leeway: float) -> None:
    """Refuse a token that is not good now, does not say until when it is, or is not from an authorizer for a node.

    Raises:
        TokenRefused: with the first of `registered_problems`.
    """
    found = registered_problems(payload, now, leeway=leeway, needs_expiry=True, issued_before=True)
    if problem := next(found, ""):
        raise invalid_claims(problem)


def _party_problems(audience: object, issuer: object) -> Iterator[str]:
    if not audience:
        yield "token is missing required claim: aud claim is required"
    elif not (audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)):
        yield "token has invalid audience"
    if not issuer:
        yield "token is missing required claim: iss claim is required"
    elif issuer != ISSUER:
        yield "token has invalid issuer"


def _is_instant(value: object) -> bool:
    return is_number(value) and abs(value) < MOST_INSTANT  # type: ignore[arg-type]  # not so of NaN


def _any_instant(value: object) -> float | None:
    if not is_number(value):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    return None if math.isnan(seconds) else seconds


def _invalid(problem: str, remedy: str) -> InvalidValue:
    return InvalidValue("token", "(not shown)", problem, remedy)
