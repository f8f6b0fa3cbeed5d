"""Tokens: what is in one, and where a session gets its own (PROTOCOL.md, "Claims", "The attestation command").

Nothing here verifies a signature: the node does. No token, secret or output of a command is ever logged or put into an
error message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import jwt

from relay.config import (
    AttestationOptions,
    BackendConfig,
    Claims,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
    TokenProvider,
    TokenRequest,
    UdpRoute,
)
from relay.config.hostnames import normalise_pattern
from relay.errors import InvalidValue
from relay.protocol.events import Stage
from relay.protocol.session import Dialect

ISSUER: Final = "authorizer"
AUDIENCE: Final = "nexus"

MAX_TOKEN: Final = 32 * 1024
"""Characters in a token; a node closes the session over a longer text frame."""

DEFAULT_TTL: Final = 30
"""Seconds that a token of our own is valid where the backend does not say."""

MAX_SECRET: Final = 64 * 1024
"""Bytes in an HMAC secret file."""

MAX_COMMAND_OUTPUT: Final = 256 * 1024
"""Bytes that are read of a command's output; more is a failed attempt."""

WITHHELD_ENVIRONMENT: Final = frozenset(
    name + suffix
    for name in (
        "SECRET_KEY",
        "FIELD_ENCRYPTION_KEYS",
        "DATABASE_URL",
        "REDIS_URL",
        "EMAIL_URL",
        "VERIFIER_SECRETS",
        "VERIFIER_PROXY_SECRETS",
        "WARNING_WEBHOOK_URL",
        "WARNING_WEBHOOK_SECRET",
    )
    for suffix in ("", "_FILE")
)
"""Variables of the registry's own that no attestation command gets to see."""


class TokenError(Exception):
    """A token could not be had. The message is for the operator and holds no secret."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says of itself, unverified.

    Attributes:
        claims: what a session that authenticates with it serves.
        expires_at: ``exp``, seconds since the epoch; None where it has none.
        issued_at: ``iat``, likewise.
    """

    claims: Claims
    expires_at: float | None = None
    issued_at: float | None = None


def parse_claims(token: str) -> TokenClaims:
    """Read the claims of a JWT without verifying it.

    Raises:
        InvalidValue: it is not a JWT, or a claim has a type that no node takes. The message does not hold the token.
    """
    token = token.strip()
    if len(token) > MAX_TOKEN:
        raise _invalid(f"has more than {MAX_TOKEN} characters", "give the JWT alone")
    try:
        # Not verified on purpose: only the node holds the key, and only the node decides.
        payload = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _invalid("is not a JWT", "give the complete signed token, three parts joined by dots") from None
    names = payload.get("hostnames")
    if not names and payload.get("hostname") is not None:
        names = [payload["hostname"]]
    if names is None:
        names = []
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_text(name) for name in names):
        raise _invalid("has a hostnames claim that is not a list of strings", "have it signed anew")
    return TokenClaims(
        Claims(
            hostnames=tuple(names),
            weight=_whole(payload, "weight", 1) or 1,
            tcp_ports=_ports(payload, "tcp_ports"),
            udp_routes=_udp_routes(payload),
            outbound_allowed=payload.get("outbound_allowed") is True,
            allowed_outbound_ports=_ports(payload, "allowed_outbound_ports"),
        ),
        expires_at=_instant(payload, "exp"),
        issued_at=_instant(payload, "iat"),
    )


def _invalid(problem: str, remedy: str) -> InvalidValue:
    return InvalidValue("token", "(not shown)", problem, remedy)


def _is_text(value: str) -> bool:
    """Say whether ``value`` is free of what no encoder and no database takes: lone surrogates and NUL."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _whole(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(f"has a {name} claim that is not a whole number", "have it signed anew")
    return value


def _instant(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(seconds) else seconds


def _ports(fields: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = fields.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(port, int) and not isinstance(port, bool) for port in value):
        raise _invalid(f"has a {name} claim that is not a list of ports", "have it signed anew")
    return tuple(value)


def _udp_routes(fields: Mapping[str, Any]) -> tuple[UdpRoute, ...]:
    value = fields.get("udp_routes")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(route, dict) for route in value):
        raise _invalid("has a udp_routes claim that is not a list of objects", "have it signed anew")
    return tuple(
        UdpRoute(_whole(route, "port", 0), _whole(route, "flow_idle_timeout_seconds", 0) or None) for route in value
    )


def session_claims(backend: BackendConfig) -> Claims:
    """Return the claims that a session of this backend authenticates with, in an order that compares.

    Raises:
        InvalidValue: the backend has no credential, or its pre-signed token can not be read.
    """
    if backend.credential is None:
        raise InvalidValue("credential", "none", "is no way to authenticate", "give the backend a token or a secret")
    if isinstance(backend.credential, PresignedToken):
        claims = parse_claims(backend.credential.token).claims
        return replace(claims, hostnames=tuple(map(normalise_pattern, claims.hostnames))).normalised()
    return backend.claims.normalised()


def expiry_note(backend: BackendConfig) -> str:
    """Return words for the operator where the backend's pre-signed token has expired by our clock; else nothing."""
    if not isinstance(backend.credential, PresignedToken):
        return ""
    try:
        expires = parse_claims(backend.credential.token).expires_at
    except InvalidValue:
        return ""
    if expires is None or expires > time.time():
        return ""
    return f"; this token expired {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(max(0, expires)))}"


TokenSource = Callable[[Stage, str, Claims], Awaitable[str]]
"""Gives the token for a stage, a nonce (empty at handshake) and the claims of the session; raises `TokenError`."""

_Issued = tuple[str, float]
"""A token and the instant (seconds since the epoch) at which it expires, infinity where that is unknown."""

_Issuer = Callable[[Stage, str, Claims], Awaitable[_Issued]]


def dialect_of(backend: BackendConfig) -> Dialect:
    """Return the handshake that goes with the backend's credential."""
    match backend.credential:
        case PresignedToken() | TokenProvider(attested=False):
            return Dialect.TOKEN
    return Dialect.ATTESTED


def token_source(backend: BackendConfig) -> TokenSource:
    """Return where the backend's tokens come from."""
    match backend.credential:
        case PresignedToken(token=token):
            return _Presigned(token)
        case HmacSecret(secret=secret, key_id=key_id):
            return _CachedHandshake(_Hmac(backend, lambda: secret, key_id), backend.attestation)
        case HmacSecretFile(path=path):
            return _CachedHandshake(_Hmac(backend, lambda: _read_secret(path)), backend.attestation)
        case TokenCommand() as command:
            return _CachedHandshake(_Command(backend, command), backend.attestation)
        case TokenProvider() as provider:
            return _CachedHandshake(_Provided(backend, provider), backend.attestation)
    return _Presigned("")  # never asked: `session_claims` refuses such a backend


class _Presigned:
    def __init__(self, token: str) -> None:
        self._token = token.strip()

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> str:
        return self._token


class _CachedHandshake:
    """Keeps handshake tokens for ``cache_handshake`` seconds, never past their own expiry."""

    def __init__(self, issuer: _Issuer, options: AttestationOptions) -> None:
        self._issuer = issuer
        self._keep = options.cache_handshake
        self._cached: tuple[Claims, float, str] | None = None

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> str:
        if stage is not Stage.HANDSHAKE or not self._keep:
            return (await self._issuer(stage, nonce, claims))[0]
        if self._cached and self._cached[0] == claims and time.time() < self._cached[1]:
            return self._cached[2]
        token, expires_at = await self._issuer(stage, nonce, claims)
        # A second of margin: a token that expires on its way is refused.
        self._cached = (claims, min(time.time() + self._keep, expires_at - 1), token)
        return token


class _Hmac:
    """Signs HS256 tokens with a key of our own."""

    def __init__(self, backend: BackendConfig, secret: Callable[[], str], key_id: str = "") -> None:
        self._name = backend.name
        self._options = backend.attestation
        self._secret = secret
        self._key_id = key_id

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> _Issued:
        secret = await asyncio.to_thread(self._secret)
        try:
            token = mint(self._name, claims, self._options, secret, stage=stage, nonce=nonce, key_id=self._key_id)
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenError(f"can not sign a token: {type(error).__name__}; check the HMAC secret") from None
        if len(token) > MAX_TOKEN:
            raise TokenError(
                f"the token has {len(token)} characters and a node takes {MAX_TOKEN}: "
                "spread the host names over several backends, or claim wildcards"
            )
        return token, time.time() + (self._options.token_ttl or DEFAULT_TTL)


def mint(
    name: str,
    claims: Claims,
    options: AttestationOptions,
    secret: str,
    *,
    stage: Stage,
    nonce: str = "",
    key_id: str = "",
    token_id: str = "",
) -> str:
    """Return an HS256 token (PROTOCOL.md, "Claims").

    Args:
        name: the token's subject.
        nonce: the challenge's; empty at handshake.
        key_id: for the header, ``kid``; empty for none.
        token_id: ``jti``; empty for none.
    """
    now = int(time.time())
    payload: dict[str, Any] = {"hostnames": list(claims.hostnames), "weight": claims.weight}
    if claims.tcp_ports:
        payload["tcp_ports"] = list(claims.tcp_ports)
    if claims.udp_routes:
        payload["udp_routes"] = [
            {"port": route.port}
            | ({"flow_idle_timeout_seconds": route.flow_idle_timeout} if route.flow_idle_timeout else {})
            for route in claims.udp_routes
        ]
    if nonce:
        payload["session_nonce"] = nonce
    if claims.outbound_allowed:
        payload["outbound_allowed"] = True
    if claims.allowed_outbound_ports:
        payload["allowed_outbound_ports"] = list(claims.allowed_outbound_ports)
    optional = {
        "handshake_max_age_seconds": options.handshake_max_age if stage is Stage.HANDSHAKE else 0,
        "reauth_interval_seconds": options.reauth_interval,
        "reauth_grace_seconds": options.reauth_grace,
        "maintenance_grace_cap_seconds": options.maintenance_grace_cap,
        "authorizer_status_uri": options.authorizer_status_uri,
        "policy_version": options.policy_version,
    }
    payload |= {claim: value for claim, value in optional.items() if value}
    if token_id:
        payload["jti"] = token_id
    payload |= {
        "iss": ISSUER,
        "sub": name,
        "aud": [AUDIENCE],
        "iat": now,
        "exp": now + (options.token_ttl or DEFAULT_TTL),
    }
    return jwt.encode(payload, secret, algorithm="HS256", headers={"kid": key_id} if key_id else None)


def _read_secret(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SECRET + 1)
        secret = content.decode().strip()
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TokenError(f"can not read the HMAC secret file {path!r}: {problem}") from None
    if len(content) > MAX_SECRET:
        raise TokenError(f"the HMAC secret file {path!r} has more than {MAX_SECRET} bytes: it is not a key")
    if not secret:
        raise TokenError(f"the HMAC secret file {path!r} is empty: write the key into it")
    return secret


class _Command:
    """Runs a program for each token: never through a shell, time-limited, its output never logged."""

    def __init__(self, backend: BackendConfig, command: TokenCommand) -> None:
        self._name = backend.name
        self._command = command

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> _Issued:
        program = self._command.command
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *self._command.args,
                env=self._environment(stage, nonce, claims),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise TokenError(f"can not run the attestation command {program!r}: {problem}") from None
        try:
            async with asyncio.timeout(self._command.timeout):
                output = await _read_output(process)
                status = await process.wait()
        except TimeoutError:
            seconds = f"{self._command.timeout:g} s"
            raise TokenError(f"attestation command {program!r} did not finish within {seconds}") from None
        finally:
            # The group, not the process alone: what the command started must not outlive it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await process.wait()
        if status != 0:
            raise TokenError(f"attestation command {program!r} failed with exit status {status}")
        return _token_of(output, program)

    def _environment(self, stage: Stage, nonce: str, claims: Claims) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in WITHHELD_ENVIRONMENT}
        environment.update(self._command.env)
        environment |= {
            "NEXUS_ATTESTATION_STAGE": stage.value,
            "NEXUS_SESSION_NONCE": nonce,
            "NEXUS_BACKEND_NAME": self._name,
            "NEXUS_HOSTNAMES": ",".join(claims.hostnames),
            "NEXUS_WEIGHT": str(claims.weight),
            "NEXUS_TCP_PORTS": ",".join(str(port) for port in claims.tcp_ports),
            "NEXUS_UDP_ROUTES": ",".join(
                f"{route.port}:{route.flow_idle_timeout}" if route.flow_idle_timeout else str(route.port)
                for route in claims.udp_routes
            ),
            "NEXUS_OUTBOUND_ALLOWED": "true" if claims.outbound_allowed else "false",
            "NEXUS_ALLOWED_OUTBOUND_PORTS": ",".join(str(port) for port in claims.allowed_outbound_ports),
        }
        return environment


class _Provided:
    """Asks a function of the program that embeds the relay."""

    def __init__(self, backend: BackendConfig, provider: TokenProvider) -> None:
        self._backend = backend
        self._provider = provider

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> _Issued:
        backend = self._backend
        request = TokenRequest(stage.value, nonce, backend.name, backend.tenant, claims)
        try:
            async with asyncio.timeout(self._provider.timeout):
                token = await self._provider.provide(request)
        except TimeoutError:
            raise TokenError(f"the token provider did not answer within {self._provider.timeout:g} s") from None
        except Exception as error:
            # Its text might hold what it was trying to get.
            raise TokenError(f"the token provider failed ({type(error).__name__})") from None
        if not isinstance(token, str) or not token.strip():
            raise TokenError("the token provider returned no token: it must return a text")
        return _checked(token.strip(), "the token provider returned")


async def _read_output(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    output = bytearray()
    while chunk := await process.stdout.read(65536):
        output += chunk
        if len(output) > MAX_COMMAND_OUTPUT:
            raise TokenError(f"attestation command printed more than {MAX_COMMAND_OUTPUT} bytes")
    return bytes(output)


def _token_of(output: bytes, program: str) -> _Issued:
    """Return the token that a command printed: its first line, or the ``token`` of a JSON object."""
    text = output.decode("utf-8", "replace").strip()
    token = text.split("\n", 1)[0]
    expires_at = math.inf
    if text.startswith("{"):
        try:
            answer = json.loads(text)
            token = answer["token"]
            expiry = answer.get("expiry")
            if not isinstance(token, str) or not (expiry is None or isinstance(expiry, str)):
                raise ValueError
            if expiry:
                expires_at = _rfc3339(expiry)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TokenError(
                f'attestation command {program!r} printed JSON that is not {{"token": "…", "expiry": "<RFC 3339>"}}'
            ) from None
        if expires_at <= time.time():
            raise TokenError(f"attestation command {program!r} printed a token that has expired")
    token = token.strip()
    if not token:
        raise TokenError(f"attestation command {program!r} printed no token")
    token, stated = _checked(token, f"attestation command {program!r} printed")
    return token, min(expires_at, stated)


def _checked(token: str, gave: str) -> _Issued:
    """Return a token with the expiry that it states.

    Args:
        gave: who gave it, for the error.
    """
    if len(token) > MAX_TOKEN or not token.isascii():
        raise TokenError(f"{gave} something that is not a token")
    try:
        stated = parse_claims(token).expires_at
    except InvalidValue:
        stated = None
    return token, math.inf if stated is None else stated


def _rfc3339(text: str) -> float:
    """Return an instant in seconds since the epoch; infinity for the zero time that Go programs print for "none"."""
    instant = datetime.fromisoformat(text.strip().upper())
    if instant.tzinfo is None:
        raise ValueError("no offset from UTC")
    return math.inf if instant.year == 1 else instant.timestamp()
