"""Credentials: what the tokens of a backend are made with. Secrets never appear in a ``repr``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.config.claims import Claims


@dataclass(frozen=True, slots=True)
class PresignedToken:
    """A complete JWT, signed elsewhere: the token dialect."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HmacSecret:
    """The key with which the relay signs its own HS256 tokens: the attested dialect.

    Attributes:
        key_id: goes into the tokens' header (``kid``), for verifiers with several keys; empty for none.
    """

    secret: str = field(repr=False)
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class HmacSecretFile:
    """A file that holds the HS256 key; read again for every token, so that it can be rotated in place."""

    path: str


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A program that prints a token (docs/protocol.md, "The attestation command")."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a `TokenProvider` is asked for.

    Attributes:
        stage: ``handshake``, ``attest`` or ``reauth`` (docs/protocol.md, "The attestation command").
        nonce: of the node's challenge, for the claim ``session_nonce``; empty at handshake.
        backend, tenant: their names.
        claims: what the token is to say.
    """

    stage: str
    nonce: str
    backend: str
    tenant: str
    claims: Claims


@dataclass(frozen=True, slots=True)
class TokenProvider:
    """A program's own way to get tokens: called on the event loop for each token that a session needs.

    Two are the same credential where their functions are equal, so give the same function each time.

    Attributes:
        provide: returns the token; what it raises is logged by its type, and the session is tried again.
        attested: the attested dialect; False for a token that is complete and the same at every stage.
        timeout: seconds that it may take.
    """

    provide: Callable[[TokenRequest], Awaitable[str]] = field(repr=False)
    attested: bool = True
    timeout: float = 15.0


Credential = PresignedToken | HmacSecret | HmacSecretFile | TokenCommand | TokenProvider
