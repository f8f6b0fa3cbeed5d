"""Signs tokens for a backend with its tenant's newest key; each is put on record, by its fingerprint."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from relay.config import AttestationOptions, Claims, UdpRoute
from relay.config.addresses import is_status_address, without_query
from relay.config.hostnames import normalise_pattern
from relay.errors import InvalidValue, shorten
from relay.protocol.events import Stage
from relay.tokens.claims import MOST_NONCE
from relay.tokens.jwt import MAX_TOKEN
from relay.tokens.mint import mint
from tenants.changes import generations
from tenants.fields import UndecryptableValue
from tenants.models.backend import Backend
from tenants.models.credential import Credential, CredentialKind
from tenants.models.tenant import Tenant
from tenants.services.audit import journal
from tenants.services.tokens.entitlements import entitlements_of
from tenants.services.tokens.taken import attesting_nodes
from tenants.services.tokens.tenant_keys import signing_key

PRESIGNED_TTL: Final = 30 * 24 * 3_600
"""Seconds that a pre-signed token is valid where nothing else is said."""

ATTESTED_TTL: Final = 30
LONGEST_TTL: Final = 10 * 365 * 24 * 3_600
STATUS_PATH: Final = "/nexus/status"

STAGE_VARIABLE: Final = "NEXUS_ATTESTATION_STAGE"
NONCE_VARIABLE: Final = "NEXUS_SESSION_NONCE"


class CanNotIssue(Exception):
    """No token was signed. The message is for people and holds no secret."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and what may be said of it."""

    token: str = field(repr=False)
    token_id: str
    kid: str
    expires_at: datetime
    token_hash: str


def token_hash(token: str) -> str:
    """Return the SHA-256 by which the audit trail and `Revocation` name a token.

    Without a key, unlike other fingerprints: it must last longer than SECRET_KEY, and a token cannot be guessed.
    """
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def status_uri() -> str:
    """Return the address that nodes ask before a re-authentication; empty where the registry is no verifier.

    Empty too where PUBLIC_URL is not ``https://``: a node refuses the whole session for another address.
    """
    public = str(getattr(settings, "PUBLIC_URL", ""))
    return f"{public}{STATUS_PATH}" if public.startswith("https://") and verifier_is_on() else ""


def verifier_is_on() -> bool:
    """Tell whether nodes can ask this registry."""
    return bool(getattr(settings, "VERIFIER_SECRETS", ()) or getattr(settings, "VERIFIER_PROXY_SECRETS", ()))


def issue(
    backend: Backend,
    *,
    ttl: int = PRESIGNED_TTL,
    stage: Stage | None = None,
    nonce: str = "",
    claims: Claims | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> IssuedToken:
    """Sign a token and put that on record.

    Args:
        ttl: seconds that it is valid.
        stage: what it is for; None for a pre-signed token, which is for every stage of the token dialect.
        nonce: the challenge's; empty for a handshake or pre-signed token.
        claims: what it is to say; None for all that the backend may.

    Raises:
        CanNotIssue: there is no key, backend or tenant are switched off, the backend may not claim that, or the token
            would be too long for a node.
    """
    if not 1 <= ttl <= LONGEST_TTL:
        raise CanNotIssue(f"The token can be valid from 1 to {LONGEST_TTL} seconds, not {ttl}.")
    entitlement = entitlements_of([backend.pk], using)[backend.pk]
    if not entitlement.enabled:
        raise CanNotIssue(f"The backend {backend} is switched off, so no node should take its token: switch it on.")
    if not Tenant.objects.using(using).filter(pk=entitlement.tenant_id, enabled=True).exists():
        raise CanNotIssue(
            f"The tenant {backend.tenant.slug} is switched off, so no node should take its token: ask an operator to "
            "switch it on."
        )
    wanted = entitlement.claims() if claims is None else claims.normalised()
    problems = entitlement.problems(wanted)
    if problems:
        raise CanNotIssue(f"The registry has otherwise for {backend}: {'; '.join(problems[:3])}.")
    issued = _sign(backend, wanted, ttl, stage, nonce, using)
    journal.record(
        "token issued",
        backend,
        changes={
            "token": issued.token_hash,
            "token id": issued.token_id,
            "key": issued.kid,
            "stage": "pre-signed" if stage is None else stage.value,
            "expires": issued.expires_at.isoformat(),
        },
        using=using,
    )
    return issued


@sensitive_variables("secret")
def _sign(backend: Backend, claims: Claims, ttl: int, stage: Stage | None, nonce: str, using: str) -> IssuedToken:
    key = signing_key(backend.tenant, using)
    if key is None:
        raise CanNotIssue(f"The tenant {backend.tenant.slug} has no key to sign with: one of its owners can make one.")
    try:
        secret = key.secret
    except UndecryptableValue as error:
        raise CanNotIssue(str(error)) from None
    token_id = secrets.token_urlsafe(16)
    token = mint(
        str(backend),
        claims,
        _options(backend, ttl, using),
        secret,
        stage=stage or Stage.ATTEST,  # only a handshake token says its greatest age
        nonce=nonce,
        key_id=key.kid,
        token_id=token_id,
    )
    if len(token) > MAX_TOKEN:
        raise CanNotIssue(
            f"The token would have {len(token)} characters, and a node takes {MAX_TOKEN}: spread the hostnames over "
            "several backends, or claim wildcards."
        )
    expires_at = (timezone.now() + timedelta(seconds=ttl)).replace(microsecond=0)
    return IssuedToken(token, token_id, key.kid, expires_at, token_hash(token))


def _options(backend: Backend, ttl: int, using: str) -> AttestationOptions:
    """Return what the token says beside the claims: as the backend's credential has it."""
    stored = Credential.objects.using(using).filter(backend=backend).first()
    found = AttestationOptions()
    if stored is not None:
        found = AttestationOptions(
            handshake_max_age=stored.handshake_max_age,
            reauth_interval=stored.reauth_interval,
            reauth_grace=stored.reauth_grace,
            maintenance_grace_cap=stored.maintenance_grace_cap,
            authorizer_status_uri=stored.authorizer_status_uri,
            policy_version=stored.policy_version,
        )
    own = found.authorizer_status_uri
    return replace(found, token_ttl=ttl, authorizer_status_uri=own if is_status_address(own) else status_uri())


def refuses_next(backend: Backend) -> str:
    """Return why a token cannot be installed beside the backend's stored one; empty where it can."""
    stored = Credential.objects.filter(backend=backend).first()
    if stored is None:
        return "There is no token yet that it could take the place of: put it in place at once."
    if stored.kind != CredentialKind.PRESIGNED_TOKEN:
        return (
            f"The backend's credential is of the kind {stored.get_kind_display()!r}: nodes that ask its sessions to "
            "attest refuse a pre-signed token. Where its nodes take pre-signed ones, put it in place at once."
        )
    if stored.next_at is not None:
        return "A next token is planned already: drop it first, or wait until it has taken its turn."
    return ""


def doubts(backend: Backend) -> str:
    """Return why the backend's nodes may refuse a pre-signed token; empty where nothing speaks against it."""
    stored = Credential.objects.filter(backend=backend).first()
    if stored is not None and stored.kind != CredentialKind.PRESIGNED_TOKEN:
        return (
            f"The backend attests to its nodes so far ({stored.get_kind_display()}), and a node that asks for that "
            "refuses a pre-signed token: nothing would be served after the next connect."
        )
    if stored is None and (nodes := attesting_nodes(backend)):
        where = ", ".join(shorten(without_query(node)) for node in nodes)
        return f"Sessions attest at {where}: a node that asks for that refuses a pre-signed token."
    return ""


@sensitive_variables("token")
def install_next(backend: Backend, issued: IssuedToken) -> Credential:
    """Put a token beside the stored one: it serves from now on, and takes its place when a node has taken it.

    Raises:
        CanNotIssue: as `refuses_next`.
        ValidationError: the credential does not take it.
    """
    with generations.batch():
        if problem := refuses_next(backend):
            raise CanNotIssue(problem)
        stored = Credential.objects.get(backend=backend)
        stored.next_secret, stored.next_at = issued.token, timezone.now()
        stored.full_clean(exclude=["backend"])
        stored.save()
    return stored


@sensitive_variables("token")
def install(backend: Backend, issued: IssuedToken) -> Credential:
    """Put a token in place of the backend's credential at once; nothing is left to go back to.

    Its other settings stay, but for a planned one of another kind.

    Raises:
        ValidationError: the credential does not take it.
    """
    with generations.batch():
        stored = Credential.objects.filter(backend=backend).first() or Credential(backend=backend)
        if stored.kind != CredentialKind.PRESIGNED_TOKEN:
            stored.kind, stored.next_secret, stored.next_at = CredentialKind.PRESIGNED_TOKEN, None, None
        stored.secret = issued.token
        stored.full_clean(exclude=["backend"])
        stored.save()
    return stored


# -- as an attestation command


def attest(backend: Backend, environment: Mapping[str, str], ttl: int = ATTESTED_TTL) -> IssuedToken:
    """Sign the token that an attestation command is asked for (docs/protocol.md, "The attestation command").

    What the environment claims is checked against the registry; what it leaves out is the registry's.

    Raises:
        CanNotIssue: as `issue`, or the environment says nothing that can be understood.
    """
    try:
        stage = Stage(environment.get(STAGE_VARIABLE) or Stage.HANDSHAKE.value)
    except ValueError:
        _misunderstood(STAGE_VARIABLE, "handshake, attest or reauth")
    nonce = environment.get(NONCE_VARIABLE, "")
    if len(nonce) > MOST_NONCE or not nonce.isprintable():
        _misunderstood(NONCE_VARIABLE, f"at most {MOST_NONCE} characters")
    if bool(nonce) is (stage is Stage.HANDSHAKE):
        raise CanNotIssue(f"{NONCE_VARIABLE} must hold the node's nonce for attest and reauth, and none for handshake.")
    return issue(backend, ttl=ttl, stage=stage, nonce=nonce, claims=_claims(backend, environment))


def _claims(backend: Backend, environment: Mapping[str, str]) -> Claims:
    known = entitlements_of([backend.pk])[backend.pk].claims()

    def parts(name: str) -> list[str] | None:
        text = environment.get(name)
        return None if text is None else [part.strip() for part in text.split(",") if part.strip()]

    def numbers(name: str) -> tuple[int, ...] | None:
        found = parts(name)
        return None if found is None else tuple(_number(part, name) for part in found)

    changes: dict[str, Any] = {}
    if (names := parts("NEXUS_HOSTNAMES")) is not None:
        changes["hostnames"] = tuple(map(normalise_pattern, names))
    if weight := numbers("NEXUS_WEIGHT"):
        changes["weight"] = weight[0]
    if (ports := numbers("NEXUS_TCP_PORTS")) is not None:
        changes["tcp_ports"] = ports
    if (routes := parts("NEXUS_UDP_ROUTES")) is not None:
        changes["udp_routes"] = tuple(
            UdpRoute(_number(port, "NEXUS_UDP_ROUTES"), _number(idle, "NEXUS_UDP_ROUTES") if idle else None)
            for port, _, idle in (route.partition(":") for route in routes)
        )
    if allowed := environment.get("NEXUS_OUTBOUND_ALLOWED"):
        if allowed not in ("true", "false"):
            _misunderstood("NEXUS_OUTBOUND_ALLOWED", "true or false")
        changes["outbound_allowed"] = allowed == "true"
        if allowed == "false":
            changes["allowed_outbound_ports"] = ()
    if ports := numbers("NEXUS_ALLOWED_OUTBOUND_PORTS"):
        changes["allowed_outbound_ports"] = ports
    return replace(known, **changes)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        _misunderstood(name, "whole numbers")
    return int(text)


def _misunderstood(name: str, wanted: str) -> NoReturn:
    raise CanNotIssue(f"{name} is not what the protocol has: give {wanted}.")


def find_backend(text: str) -> Backend:
    """Return the backend that is written ``TENANT/BACKEND``.

    Raises:
        InvalidValue: there is none.
    """
    slug, _, name = text.partition("/")
    found = Backend.objects.select_related("tenant").filter(tenant__slug=slug, name=name).first()
    if found is None:
        raise InvalidValue("backend", text, "is not in the registry", "write TENANT/BACKEND")
    return found


def seconds(text: str) -> int:
    """Return a time in seconds, which may be written as 45, 30m, 12h or 90d.

    Raises:
        ValidationError: it is not a time.
    """
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    text = text.strip().lower()
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ValidationError(f"{text!r} is no time: write seconds, or 30m, 12h, 90d.")
    return int(number) * units[unit]


def rfc3339(instant: datetime) -> str:
    """Return an instant as the attestation command prints it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
