"""Checks tokens in the node's words, and mints them for tests and examples (PROTOCOL.md, "Session", "Claims")."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from relay.config import Claims, UdpRoute

ISSUER = "authorizer"
AUDIENCE = "nexus"


class TokenRefused(Exception):
    """A token that the node does not take; the text is the node's reason."""


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """A checked token: what it claims, normalised, and what it says about the session."""

    claims: Claims
    weight_given: bool = True
    nonce: str = ""
    issued_at: float | None = None
    handshake_max_age: float = 0.0
    reauth_interval: float = 0.0
    reauth_grace: float = 0.0
    status_uri: str = ""
    postponement: float = 0.0


def check_token(token: str, secret: str, *, attested: bool) -> SessionClaims:
    """Check an HS256 token.

    Args:
        token: the text that the client sent.
        secret: the key.
        attested: whether ``iss`` and ``aud`` are checked; where not, a single ``hostname`` is taken and UDP is unknown.

    Raises:
        TokenRefused: with the reason that follows "token validation failed: ".
    """
    return checked_claims(_verify(token, secret), attested=attested)


def checked_claims(fields: dict[str, Any], *, attested: bool) -> SessionClaims:
    """Check the claims of a token whose signature is good.

    Raises:
        TokenRefused: as `check_token`.
    """
    problems = list(_registered_claims_problems(fields, attested=attested))
    if problems:
        raise TokenRefused(f"jwt validation failed: token has invalid claims: {', '.join(problems)}")
    try:
        return _read(fields, attested=attested)
    except _BadClaim as error:
        raise TokenRefused(f"invalid claims: {error}") from None


def _verify(token: str, secret: str) -> dict[str, Any]:
    malformed = _malformed(token)
    if malformed:
        raise TokenRefused(f"jwt validation failed: token is malformed: {malformed}")
    try:
        # Registered claims are checked below, for the node's words.
        fields: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.InvalidAlgorithmError:
        raise TokenRefused("jwt validation failed: token signature is invalid: signing method is invalid") from None
    except jwt.InvalidSignatureError:
        raise TokenRefused("jwt validation failed: token signature is invalid: signature is invalid") from None
    except jwt.PyJWTError as error:
        raise TokenRefused(f"jwt validation failed: token is malformed: {error}") from None
    return fields


def _malformed(token: str) -> str:
    segments = token.split(".")
    if len(segments) != 3:
        return "token contains an invalid number of segments"
    for name, segment in zip(("header", "claims"), segments, strict=False):
        try:
            raw = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return f"could not base64 decode {name}: illegal base64 data"
        try:
            json.loads(raw)
        except (ValueError, RecursionError):
            first = chr(raw[0]) if raw else ""
            return f"could not JSON decode {name}: invalid character {first!r} looking for beginning of value"
    return ""


def _registered_claims_problems(fields: dict[str, Any], *, attested: bool) -> Sequence[str]:
    now = time.time()
    problems = []
    expiry, not_before = fields.get("exp"), fields.get("nbf")
    if expiry is not None and (not _is_number(expiry) or expiry <= now):
        problems.append("token is expired")
    if not_before is not None and (not _is_number(not_before) or not_before > now):
        problems.append("token is not valid yet")
    if attested:
        audience, issuer = fields.get("aud"), fields.get("iss")
        if not audience:
            problems.append("token is missing required claim: aud claim is required")
        elif AUDIENCE not in ([audience] if isinstance(audience, str) else audience):
            problems.append("token has invalid audience")
        if not issuer:
            problems.append("token is missing required claim: iss claim is required")
        elif issuer != ISSUER:
            problems.append("token has invalid issuer")
    return problems


class _BadClaim(Exception):
    pass


def _read(fields: dict[str, Any], *, attested: bool) -> SessionClaims:
    hostnames = _list(fields, "hostnames", str)
    if not attested and isinstance(fields.get("hostname"), str):
        hostnames = [*hostnames, fields["hostname"]]
    weight = fields.get("weight", 1)
    if not _is_int(weight) or weight < 0:
        raise _BadClaim("weight must be a positive integer")
    outbound_allowed = fields.get("outbound_allowed", False)
    if not isinstance(outbound_allowed, bool):
        raise _BadClaim("outbound_allowed must be a boolean")
    claims = Claims(
        hostnames=tuple(hostnames),
        weight=weight or 1,
        tcp_ports=tuple(_list(fields, "tcp_ports", int)),
        udp_routes=tuple(_udp_routes(fields)) if attested else (),
        outbound_allowed=outbound_allowed,
        allowed_outbound_ports=tuple(_list(fields, "allowed_outbound_ports", int)),
    ).normalised()
    if not (claims.hostnames or claims.tcp_ports or claims.udp_routes):
        raise _BadClaim("token contains neither hostnames nor port claims")
    if claims.allowed_outbound_ports and not outbound_allowed:
        raise _BadClaim("allowed_outbound_ports without outbound_allowed")
    nonce = fields.get("session_nonce", "")
    issued_at = fields.get("iat")
    return SessionClaims(
        claims=claims,
        weight_given=weight != 0 and "weight" in fields,
        nonce=nonce if isinstance(nonce, str) else "",
        issued_at=issued_at if _is_number(issued_at) else None,
        handshake_max_age=_seconds(fields, "handshake_max_age_seconds"),
        reauth_interval=_seconds(fields, "reauth_interval_seconds"),
        reauth_grace=_seconds(fields, "reauth_grace_seconds"),
        status_uri=str(fields.get("authorizer_status_uri") or ""),
        postponement=_seconds(fields, "maintenance_grace_cap_seconds"),
    )


def _udp_routes(fields: dict[str, Any]) -> list[UdpRoute]:
    routes = []
    for route in _list(fields, "udp_routes", dict):
        port, timeout = route.get("port"), route.get("flow_idle_timeout_seconds")
        if not _is_int(port) or not (timeout is None or _is_int(timeout)):
            raise _BadClaim("udp_routes must hold port and flow_idle_timeout_seconds as integers")
        routes.append(UdpRoute(port, timeout))
    return routes


def _list(fields: dict[str, Any], name: str, kind: type) -> list[Any]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or any(not isinstance(item, kind) or isinstance(item, bool) for item in value):
        raise _BadClaim(f"{name} must be an array of {kind.__name__}")
    return value


def _seconds(fields: dict[str, Any], name: str) -> float:
    value = fields.get(name, 0)
    # Fractions never come from a real client; tests use them to be fast.
    if not _is_number(value) or value < 0:
        raise _BadClaim(f"{name} must be a number of seconds")
    return float(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
    return jwt.encode({name: value for name, value in body.items() if value is not None}, secret, algorithm="HS256")
