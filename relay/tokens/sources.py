"""Sources of tokens: where a session gets its own (docs/protocol.md, "Claims").

Nothing here verifies a signature: the node does. No token, secret or output of a command is ever logged or put into an
error message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

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
)
from relay.errors import InvalidValue
from relay.protocol.events import Stage
from relay.protocol.handshake import Dialect
from relay.tokens.claims import in_normal_form, parse_claims
from relay.tokens.command import Command
from relay.tokens.issuer import Issued, Issuer, TokenError, with_expiry
from relay.tokens.jwt import MAX_TOKEN
from relay.tokens.mint import DEFAULT_TTL, mint
from relay.tokens.secret_file import SecretFile

TokenSource = Callable[[Stage, str, Claims], Awaitable[str]]
"""Gives the token for a stage, a nonce (empty at handshake) and the claims of the session; raises `TokenError`."""


def session_claims(backend: BackendConfig) -> Claims:
    """Return the claims that a session of this backend authenticates with, in an order that compares.

    Raises:
        InvalidValue: the backend has no credential, or its pre-signed token cannot be read.
    """
    if backend.credential is None:
        raise InvalidValue("credential", "none", "is no way to authenticate", "give the backend a token or a secret")
    if isinstance(backend.credential, PresignedToken):
        return in_normal_form(parse_claims(backend.credential.token).claims)
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
            return _CachedHandshake(_Hmac(backend, secret, key_id), backend.attestation)
        case HmacSecretFile(path=path):
            return _CachedHandshake(_Hmac(backend, SecretFile(path)), backend.attestation)
        case TokenCommand() as command:
            return _CachedHandshake(Command(backend, command), backend.attestation)
        case TokenProvider() as provider:
            return _CachedHandshake(_Provided(backend, provider), backend.attestation)
    return _Presigned("")  # never asked: `session_claims` refuses such a backend


class _Presigned:
    def __init__(self, token: str) -> None:
        self._token = token.strip()

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> str:
        return self._token


class _CachedHandshake:
    """Keeps handshake tokens for ``cache_handshake`` seconds, never past their own expiry.

    How long is measured by the loop's clock, since ours may jump; the expiry is a date, by which the node goes too.
    """

    def __init__(self, issuer: Issuer, options: AttestationOptions) -> None:
        self._issuer = issuer
        self._keep = options.cache_handshake
        self._cached: tuple[Claims, float, float, str] | None = None

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> str:
        if stage is not Stage.HANDSHAKE or not self._keep:
            return (await self._issuer(stage, nonce, claims))[0]
        clock = asyncio.get_running_loop().time
        if self._cached is not None:
            of, until, expires_at, token = self._cached
            if of == claims and clock() < until and time.time() < expires_at:
                return token
        token, expires_at = await self._issuer(stage, nonce, claims)
        expires_at -= 1  # a token that expires on its way is refused
        self._cached = (claims, clock() + min(self._keep, expires_at - time.time()), expires_at, token)
        return token


class _Hmac:
    """Signs HS256 tokens with a key of our own."""

    def __init__(self, backend: BackendConfig, secret: str | SecretFile, key_id: str = "") -> None:
        self._name = backend.name
        self._options = backend.attestation
        self._secret = secret
        self._key_id = key_id

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> Issued:
        secret = await self._secret.read() if isinstance(self._secret, SecretFile) else self._secret
        try:
            token = mint(self._name, claims, self._options, secret, stage=stage, nonce=nonce, key_id=self._key_id)
        except ValueError as error:
            raise TokenError(f"cannot sign a token: {error}") from None
        if len(token) > MAX_TOKEN:
            raise TokenError(
                f"the token has {len(token)} characters and a node takes {MAX_TOKEN}: "
                "spread the host names over several backends, or claim wildcards"
            )
        return token, time.time() + (self._options.token_ttl or DEFAULT_TTL)


class _Provided:
    """Asks a function of the program that embeds the relay."""

    def __init__(self, backend: BackendConfig, provider: TokenProvider) -> None:
        self._backend = backend
        self._provider = provider

    async def __call__(self, stage: Stage, nonce: str, claims: Claims) -> Issued:
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
        return with_expiry(token.strip(), "the token provider returned")
