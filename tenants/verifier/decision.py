"""Decides whether a token is good: whose key signed it, what it claims, and whether that may be claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.config import Claims
from relay.errors import shorten
from relay.tokens.claims import check_registered
from relay.tokens.jwt import TokenRefused, signature_is_invalid
from tenants.services.tokens.entitlements import shown
from tenants.services.tokens.issue import token_hash
from tenants.verifier.cache import HOST, Anchor, BackendMaterial, Reader, TenantMaterial
from tenants.verifier.token import LEEWAY, ReadToken, answered, claims_of, read_token, token_claims, with_one_name

NAMED: Final = 3  # problems named in a reason, and names kept of what was claimed
MOST_SECRETS: Final = 100
"""Secrets that one token without a key's id is tried with: a tenant may have any number of backends and keys."""

MOST_COMPARED: Final = 20
"""Backends that are looked at for the reason, where none may claim all of it."""

_NO_SECRET: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and about what.

    Attributes:
        claims: what the node is told; None for a token that is refused.
        reason: why it is refused; empty for a good one.
        tenant: key and slug of the tenant whose key or secret signed it; None where none is known to have. Only a
            tenant's own owners may be told what is beside it.
        backend: key and name of the backend that may claim it.
        digest: SHA-256 of the token.
        claimed: some of what it claims, unverified.
    """

    claims: dict[str, Any] | None = field(repr=False)
    reason: str = ""
    tenant: tuple[int, str] | None = None
    backend: tuple[int, str] | None = None
    kid: str = ""
    digest: str = ""
    token_id: str = ""
    claimed: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the token is good."""
        return self.claims is not None


def take_apart(text: str) -> ReadToken | Decision:
    """Return the token taken apart, or the decision where it is not a token."""
    try:
        return read_token(text)
    except TokenRefused as error:
        return Decision(None, str(error), digest=token_hash(text))


def decide(token: ReadToken, reader: Reader, now: float, status_uri: str = "") -> Decision:
    """Decide about a token at an instant.

    Args:
        status_uri: where the node may ask whether this registry answers.

    Raises:
        NotKept: the reader must read first.
    """
    case = _Case(token)
    try:
        return case.decide(reader, now, status_uri)
    except TokenRefused as error:
        return case.decision(None, str(error))


class _Case:
    """One token, and what has been found out of it so far."""

    def __init__(self, token: ReadToken) -> None:
        self.token = token
        self.tenant: TenantMaterial | None = None
        self.backend: BackendMaterial | None = None
        self.token_id = ""
        self.claimed: tuple[str, ...] = ()
        self._tried: dict[bytes, bool] = {}

    def decision(self, claims: dict[str, Any] | None, reason: str = "") -> Decision:
        """Return the decision."""
        tenant, backend = self.tenant, self.backend
        return Decision(
            claims,
            reason,
            tenant=None if tenant is None else (tenant.pk, tenant.slug),
            backend=None if backend is None else (backend.entitlement.backend_id, backend.entitlement.name),
            kid=self.token.kid,
            digest=self.token.digest,
            token_id=self.token_id,
            claimed=self.claimed,
        )

    def decide(self, reader: Reader, now: float, status_uri: str) -> Decision:
        """Return the decision about a good token.

        Raises:
            TokenRefused: it is not good.
        """
        candidates, claims = self._signed_by_key(reader, now) if self.token.kid else self._signed_by_owner(reader, now)
        tenant = self.tenant
        assert tenant is not None
        payload = self.token.payload
        check_registered(payload, now, LEEWAY)
        told = token_claims(payload, claims)
        self.token_id = told.token_id or ""
        if self.token.digest in tenant.revoked_hashes or (self.token_id and self.token_id in tenant.revoked_ids):
            raise TokenRefused("the token is revoked")
        if not tenant.enabled:
            raise TokenRefused(f"tenant {tenant.slug} is disabled")
        backend = self._choose(tenant, candidates, claims)
        subject = f"{tenant.slug}/{backend.entitlement.name}"
        return self.decision(answered(told, subject, status_uri))

    # -- whose it is

    def _signed_by_key(self, reader: Reader, now: float) -> tuple[Sequence[BackendMaterial], Claims]:
        """Check the signature by the key that the token names; return its tenant's backends that claim the same."""
        tenant = reader.tenant_of_key(self.token.kid)
        key = next((each for each in tenant.keys if each.kid == self.token.kid), None) if tenant else None
        if tenant is None or key is None:
            self._vouches(_NO_SECRET)  # takes as long as a known one
            raise signature_is_invalid()
        if key.secret is None:
            raise TokenRefused("the registry cannot read the key that the token names")
        if not self._vouches(key.secret):
            raise signature_is_invalid()
        # Not before: a key's id is no secret, and a stranger who knows it must not write into the tenant's trail.
        self.tenant = tenant
        if key.revoked:
            raise TokenRefused(f"key {key.kid} is revoked")
        if not key.accepted(now):
            raise TokenRefused(f"key {key.kid} has retired")
        claims = self._claims(self.token.payload)
        anchor = _anchor(claims, tenant.pk)
        return [each for each in reader.candidates(anchor) if each.entitlement.tenant_id == tenant.pk], claims

    def _signed_by_owner(self, reader: Reader, now: float) -> tuple[Sequence[BackendMaterial], Claims]:
        """Find who signed a token that names no key, among those who claim the same; return one tenant's backends."""
        payload = self.token.payload
        subject = payload.get("sub")
        subject = shorten(subject, 300) if isinstance(subject, str) and subject.isprintable() else ""
        anchor = _anchor(self._claims(with_one_name(payload)), subject)
        # Whom the token itself names comes first, since not all are tried.
        name = subject.rpartition("/")[2]
        candidates = sorted(reader.candidates(anchor), key=lambda each: each.entitlement.name != name)
        found: list[BackendMaterial] = []
        by_tenant: dict[int, bool] = {}
        for backend in candidates:
            tenant_id = backend.entitlement.tenant_id
            if found and tenant_id != found[0].entitlement.tenant_id:
                continue
            if anchor[0] == HOST and tenant_id not in by_tenant:
                by_tenant[tenant_id] = self._vouched_by_tenant(reader, tenant_id, now)
            if by_tenant.get(tenant_id) or any(map(self._vouches, backend.accepted(now))):
                found.append(backend)
        if not found:
            raise signature_is_invalid()
        self.tenant = reader.tenant(found[0].entitlement.tenant_id)
        if self.tenant is None:
            raise signature_is_invalid()
        return found, self._claims(payload)

    def _vouched_by_tenant(self, reader: Reader, tenant_id: int, now: float) -> bool:
        tenant = reader.tenant(tenant_id)
        accepted = [key.secret for key in tenant.keys if key.accepted(now)] if tenant is not None else []
        return any(secret is not None and self._vouches(secret) for secret in accepted[: MOST_SECRETS // 2])

    def _vouches(self, secret: bytes) -> bool:
        found = self._tried.get(secret)
        if found is None and len(self._tried) < MOST_SECRETS:
            found = self._tried[secret] = self.token.jwt.is_signed_with(secret)
        return bool(found)

    # -- what it claims

    def _claims(self, payload: Mapping[str, Any]) -> Claims:
        claims = claims_of(payload)
        names = [shown(name) for name in claims.hostnames[:NAMED]]
        ports = [f"tcp:{port}" for port in claims.tcp_ports] + [f"udp:{route.port}" for route in claims.udp_routes]
        self.claimed = (*names, *ports[:NAMED])
        return claims

    def _choose(self, tenant: TenantMaterial, candidates: Sequence[BackendMaterial], claims: Claims) -> BackendMaterial:
        """Return the enabled backend that may claim all of it.

        Raises:
            TokenRefused: there is none; the reason is about the one that comes nearest.
        """
        nearest: tuple[int, BackendMaterial, list[str]] | None = None
        disabled: BackendMaterial | None = None
        for backend in candidates:
            if backend.entitlement.allows(claims):
                if backend.entitlement.enabled:
                    self.backend = backend
                    return backend
                disabled = backend
        if disabled is not None:
            self.backend = disabled
            raise TokenRefused(f"backend {tenant.slug}/{disabled.entitlement.name} is disabled")
        for backend in candidates[:MOST_COMPARED]:
            problems = backend.entitlement.problems(claims)
            if nearest is None or len(problems) < nearest[0]:
                nearest = (len(problems), backend, problems)
        if nearest is None:
            kind, value, _ = _anchor(claims, 0)
            what = f"hostname {shown(str(value))}" if kind == HOST else f"{kind.upper()} port {value}"
            raise TokenRefused(f"{what} is claimed by no backend of tenant {tenant.slug}")
        number, backend, problems = nearest
        self.backend = backend
        more = f" and {number - NAMED} more" if number > NAMED else ""
        raise TokenRefused(
            f"beyond backend {tenant.slug}/{backend.entitlement.name}: {'; '.join(problems[:NAMED])}{more}"
        )


def _anchor(claims: Claims, of: str | int) -> Anchor:
    """Return what backends are looked for by: the first thing that is claimed.

    Raises:
        TokenRefused: nothing is claimed.
    """
    if claims.hostnames:
        return (HOST, claims.hostnames[0], "")
    if claims.tcp_ports:
        return ("tcp", claims.tcp_ports[0], of)
    if claims.udp_routes:
        return ("udp", claims.udp_routes[0].port, of)
    raise TokenRefused("invalid claims: token contains neither hostnames nor port claims")
