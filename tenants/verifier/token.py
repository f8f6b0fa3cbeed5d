"""Reads a token strictly: one way to write it, no member twice, whole numbers where numbers must be whole.

Nothing here knows a key. What is read is what its signature is checked over, and nothing else of it is ever used.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from relay.config import Claims, UdpRoute
from relay.config.hostnames import normalise_pattern
from relay.tokens.sources import AUDIENCE, ISSUER, MAX_TOKEN
from tenants.services.tokens.entitlements import shown
from tenants.services.tokens.issue import MOST_NONCE, token_hash
from tenants.validators import KEY_ID

LEEWAY: Final = 5.0
"""Seconds that clocks may differ."""

LONGEST_NAME: Final = 253
MOST_TEXT: Final = 500
MOST_SECONDS: Final = 10 * 365 * 24 * 3_600
LONGEST_POSTPONEMENT: Final = 24 * 3_600
"""Seconds that a node may postpone a re-authentication at most, whatever the token says: a revocation must count."""


class Refused(Exception):
    """The token is not good; the text is the reason that the node is given."""


@dataclass(frozen=True, slots=True)
class ReadToken:
    """A token as it was sent, taken apart.

    Attributes:
        signed: what the signature is over.
        kid: of the key, from the header; empty for none.
        payload: its claims, unverified.
        digest: SHA-256 of the whole token.
    """

    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    kid: str
    payload: Mapping[str, Any] = field(repr=False)
    digest: str


def read(text: str) -> ReadToken:
    """Take a token apart.

    Raises:
        Refused: it is none, or is not signed with HS256.
    """
    if len(text) > MAX_TOKEN:
        _malformed(f"token has more than {MAX_TOKEN} characters")
    if not text.isascii():
        _malformed("token holds more than ASCII")
    segments = text.split(".")
    if len(segments) != 3:
        _malformed("token contains an invalid number of segments")
    header = _object(_decoded(segments[0], "header"), "header")
    if header.get("alg") != "HS256":
        raise Refused("jwt validation failed: token signature is invalid: signing method is invalid")
    if "crit" in header:
        _malformed("header demands extensions")
    kid = header.get("kid", "")
    if "kid" in header and not (isinstance(kid, str) and KEY_ID.fullmatch(kid)):
        raise signature_is_invalid()
    return ReadToken(
        signed=f"{segments[0]}.{segments[1]}".encode(),
        signature=_decoded(segments[2], "signature"),
        kid=kid,
        payload=_object(_decoded(segments[1], "claims"), "claims"),
        digest=token_hash(text),
    )


def signature_is_invalid() -> Refused:
    """Return the one reason for every key that does not vouch for a token: unknown, another's, or not its own."""
    return Refused("jwt validation failed: token signature is invalid: signature is invalid")


def _malformed(problem: str) -> NoReturn:
    raise Refused(f"jwt validation failed: token is malformed: {problem}")


def _decoded(segment: str, name: str) -> bytes:
    try:
        raw = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    # What decodes to the same bytes but is written otherwise would be another token to whoever revoked this one.
    if not raw or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != segment:
        _malformed(f"could not base64 decode {name}")
    return raw


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _malformed(f"could not JSON decode {name}")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that holds a member twice: readers differ in which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands there twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


# -- claims


def check_times(payload: Mapping[str, Any], now: float) -> None:
    """Refuse a token that has expired, does not say when it does, or is not for now.

    Raises:
        Refused: with the claim's name.
    """
    expires = _instant(payload, "exp")
    if expires is None:
        _invalid("token is missing required claim: exp claim is required")
    if expires + LEEWAY <= now:
        _invalid("token is expired")
    for name, problem in (("nbf", "token is not valid yet"), ("iat", "token used before issued")):
        instant = _instant(payload, name)
        if instant is not None and instant - LEEWAY > now:
            _invalid(problem)


def check_parties(payload: Mapping[str, Any]) -> None:
    """Refuse a token that is not from an authorizer for a node.

    Raises:
        Refused: with the claim's name.
    """
    audience, issuer = payload.get("aud"), payload.get("iss")
    if not audience:
        _invalid("token is missing required claim: aud claim is required")
    if not (audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)):
        _invalid("token has invalid audience")
    if not issuer:
        _invalid("token is missing required claim: iss claim is required")
    if issuer != ISSUER:
        _invalid("token has invalid issuer")


def claims_of(payload: Mapping[str, Any]) -> Claims:
    """Return what the token claims, hostnames in their normal form, everything sorted.

    Raises:
        Refused: a claim is not of its type.
    """
    names = _list(payload, "hostnames", _is_text)
    if (single := payload.get("hostname")) is not None:
        if not _is_text(single):
            _wrong("hostname must be a string")
        names = [*names, single]
    for name in names:
        # Before IDNA, whose cost grows with the square.
        if len(name) > LONGEST_NAME + 1:
            _wrong(f"hostname {shown(name)} has more than {LONGEST_NAME} characters")
    weight = payload.get("weight", 1)
    if not _is_int(weight) or weight < 1:
        _wrong("weight must be an integer of 1 or more")
    outbound = payload.get("outbound_allowed", False)
    if not isinstance(outbound, bool):
        _wrong("outbound_allowed must be a boolean")
    routes = []
    for route in _list(payload, "udp_routes", lambda value: isinstance(value, dict)):
        port, idle = route.get("port"), route.get("flow_idle_timeout_seconds")
        if not _is_port(port) or not (idle is None or _is_seconds(idle)):
            _wrong("udp_routes must hold port and flow_idle_timeout_seconds as integers")
        routes.append(UdpRoute(port, idle or None))
    return Claims(
        hostnames=tuple(map(normalise_pattern, names)),
        weight=weight,
        tcp_ports=tuple(_list(payload, "tcp_ports", _is_port)),
        udp_routes=tuple(routes),
        outbound_allowed=outbound,
        allowed_outbound_ports=tuple(_list(payload, "allowed_outbound_ports", _is_port)),
    ).normalised()


def with_one_name(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the claims with one hostname only: enough to find whose the token may be, and IDNA costs time."""
    names = payload.get("hostnames")
    return {**payload, "hostnames": names[:1], "hostname": None} if isinstance(names, list) and names else payload


def answered(payload: Mapping[str, Any], claims: Claims, subject: str, status_uri: str) -> dict[str, Any]:
    """Return the claims that the node is told: those of PROTOCOL.md, as they were understood, and nothing else.

    Args:
        subject: in place of the token's own, which may be another tenant's name.
        status_uri: in place of the token's own. A tenant that names its own could keep revoked sessions alive.

    Raises:
        Refused: a claim is not of its type.
    """
    found: dict[str, Any] = {"hostnames": list(claims.hostnames)}
    if "weight" in payload:
        found["weight"] = claims.weight
    if claims.tcp_ports:
        found["tcp_ports"] = list(claims.tcp_ports)
    if claims.udp_routes:
        found["udp_routes"] = [
            {"port": route.port}
            | ({"flow_idle_timeout_seconds": route.flow_idle_timeout} if route.flow_idle_timeout else {})
            for route in claims.udp_routes
        ]
    if claims.outbound_allowed:
        found["outbound_allowed"] = True
    if claims.allowed_outbound_ports:
        found["allowed_outbound_ports"] = list(claims.allowed_outbound_ports)
    for name in _SECONDS:
        if name in payload:
            if not _is_seconds(payload[name]):
                _wrong(f"{name} must be a whole number of seconds")
            found[name] = payload[name]
    if "maintenance_grace_cap_seconds" in found:
        found["maintenance_grace_cap_seconds"] = min(found["maintenance_grace_cap_seconds"], LONGEST_POSTPONEMENT)
    for name, most in _TEXTS.items():
        if name in payload:
            found[name] = _text(payload, name, most)
    if "sub" in payload:
        _text(payload, "sub", MOST_TEXT)
        found["sub"] = subject
    if payload.get("authorizer_status_uri"):
        _text(payload, "authorizer_status_uri", MOST_TEXT)
        if status_uri:
            found["authorizer_status_uri"] = status_uri
    for name in ("exp", "iat", "nbf"):
        if (instant := _instant(payload, name)) is not None:
            found[name] = int(instant)
    return found | {"iss": ISSUER, "aud": [AUDIENCE]}


_SECONDS: Final = (
    "handshake_max_age_seconds",
    "reauth_interval_seconds",
    "reauth_grace_seconds",
    "maintenance_grace_cap_seconds",
)
_TEXTS: Final = {"session_nonce": MOST_NONCE, "policy_version": MOST_TEXT, "jti": MOST_TEXT}


def token_id(payload: Mapping[str, Any]) -> str:
    """Return ``jti``; empty for none.

    Raises:
        Refused: it is no text.
    """
    return _text(payload, "jti", MOST_TEXT) if "jti" in payload else ""


def _invalid(problem: str) -> NoReturn:
    raise Refused(f"jwt validation failed: token has invalid claims: {problem}")


def _wrong(problem: str) -> NoReturn:
    raise Refused(f"invalid claims: {problem}")


def _list(payload: Mapping[str, Any], name: str, fits: Callable[[Any], bool]) -> list[Any]:
    value = payload.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(map(fits, value)):
        kind = "ports from 1 to 65535" if "ports" in name else "objects" if "routes" in name else "strings"
        _wrong(f"{name} must be an array of {kind}")
    return value


def _text(payload: Mapping[str, Any], name: str, most: int) -> str:
    value = payload[name]
    if not _is_text(value) or len(value) > most:
        _wrong(f"{name} must be a string of at most {most} characters")
    return str(value)


def _instant(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12 or math.isnan(value):
        _invalid(f"{name} is no instant")
    return float(value)


def _is_text(value: object) -> bool:
    # Without control characters and halves of surrogate pairs, which no database and no log takes.
    return isinstance(value, str) and value.isprintable()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_port(value: object) -> bool:
    return _is_int(value) and 1 <= value <= 65535  # type: ignore[operator]


def _is_seconds(value: object) -> bool:
    return _is_int(value) and 0 <= value <= MOST_SECONDS  # type: ignore[operator]
