"""Diagnostics of rows that are valid but will most likely not work: shown after a save and in the lists."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from relay.config import Claims
from relay.config.claim_rules import LENIENT
from relay.config.hostnames import normalise_pattern
from relay.errors import shorten
from tenants.fields import UndecryptableValue
from tenants.models.backend import Backend
from tenants.models.credential import SECRET_KINDS, Credential, CredentialKind
from tenants.models.membership import Membership
from tenants.models.port_claim import Transport
from tenants.models.tenant_key import KeyState
from tenants.rules.commands import may_run
from tenants.rules.targets import refusal, tenant_policy

NOTICE_DAYS = (30, 7, 1)
"""Days before a token's end at which its owners are told; from the first on, lists show it too."""

EXPIRES_SOON = timedelta(days=NOTICE_DAYS[0])
WEAK_SECRET = 32  # bytes: RFC 7518, section 3.2, for HS256
NAMED = 5  # hostnames named in one diagnostic


def credential_diagnostics(credential: Credential, now: datetime | None = None) -> list[str]:
    """Return likely faults of a credential: an expired token, claims that differ from its backend, and so on.

    The node verifies tokens and this does not, so nothing here is an error.
    """
    found: list[str] = []
    if credential.kind in SECRET_KINDS:
        try:
            secret = credential.secret or ""
        except UndecryptableValue as error:
            return [str(error)]
        if credential.kind == CredentialKind.HMAC_SECRET and len(secret.encode()) < WEAK_SECRET:
            found.append(
                f"The HMAC secret has less than {WEAK_SECRET} bytes and might be guessed: use a longer random one."
            )
    if credential.kind == CredentialKind.COMMAND and not may_run(credential.command):
        # Without the command, which is for operators' eyes.
        found.append(
            "Its command is not among those that may run, so it is not served: an operator can have it added to the "
            "setting CREDENTIAL_COMMANDS."
        )
    if credential.kind == CredentialKind.PRESIGNED_TOKEN:
        now = now or timezone.now()
        found += _expiry_diagnostics(credential, now)
        if not credential.next_serves(now):
            found += _claim_diagnostics("The token", credential.claims, credential.backend)
        if credential.next_at is not None:
            found += _claim_diagnostics("The next token", credential.next_claims, credential.backend)
    return found


def backend_diagnostics(backend: Backend, now: datetime | None = None) -> list[str]:
    """Return what keeps a backend from serving, and likely faults of its credential.

    Costs no query for backends that were read by `tenants.models.below_backend.with_details`.
    """
    found: list[str] = []
    credential = getattr(backend, "credential", None)
    if credential is None:
        found.append("It has no credential, so no node takes it: give it a token, a secret or a command.")
    else:
        found += credential_diagnostics(credential, now)
    if credential is not None and credential.kind == CredentialKind.TENANT_KEY and not _signs(backend):
        found.append(
            "Its tokens are signed with the tenant's key, and the tenant has none that signs: an owner can make one."
        )
    if not any(link.node.enabled for link in backend.node_links.all()):
        found.append("It has no enabled node: add one, or enable one of its nodes.")
    hostnames, claims = _hostnames(backend), list(backend.port_claims.all())
    token_rules = credential is not None and credential.kind == CredentialKind.PRESIGNED_TOKEN
    if not hostnames and not claims and not token_rules:
        found.append("It claims nothing, which nodes refuse: give it a hostname, or let it claim a port.")
    mappings = list(backend.port_mappings.all())
    if not mappings:
        found.append("It has no port mapping, so all of its streams are refused: map a public port to a target.")
    mapped = {(mapping.transport, mapping.public_port) for mapping in mappings}
    for claim in claims:
        if mappings and (claim.transport, claim.public_port) not in mapped:
            name = Transport(claim.transport).label
            found.append(f"It claims {name} port {claim.public_port} but does not map it: its streams are refused.")
    found += [
        f"{Transport(mapping.transport).label} port {mapping.public_port} has neither a default target nor host "
        "routes: its streams are refused."
        for mapping in mappings
        if not mapping.default_target and not mapping.host_routes.all()
    ]
    refused = _refused_targets(backend)
    if refused:
        # One is shown for all: what helps it mostly helps the others.
        more = f" Refused like that: {len(refused)} default targets and host routes." if len(refused) > 1 else ""
        found.append(f"{refused[0]}{more}")
    # A token that was signed elsewhere may claim more than the backend's own hostnames.
    signed = {normalise_pattern(name) for name in credential.claims_hostnames} if credential and token_rules else set()
    if hostnames or claims or signed:
        for mapping in mappings:
            unreached = _unreached((route.pattern for route in mapping.host_routes.all()), {*hostnames, *signed})
            if unreached:
                found.append(
                    f"{Transport(mapping.transport).label} port {mapping.public_port} has host routes that no hostname "
                    f"of the backend reaches: {_listed(unreached)}. Add the hostname, or correct the pattern."
                )
    return found


def _refused_targets(backend: Backend) -> list[str]:
    policy = tenant_policy(backend.tenant)
    if policy.is_open:
        return []
    texts = [
        text
        for mapping in backend.port_mappings.all()
        for text in (mapping.default_target, *(route.target for route in mapping.host_routes.all()))
    ]
    return list(filter(None, (refusal(text, policy) for text in texts)))


def membership_diagnostics(membership: Membership) -> list[str]:
    """Return what keeps a member from logging in to the admin."""
    user = membership.user
    lacks = [
        what for there, what in ((user.is_active, "is not active"), (user.is_staff, "has no staff status")) if not there
    ]
    if not lacks:
        return []
    return [
        f"The user {user.get_username()} {' and '.join(lacks)}, so cannot log in here: an operator can change that "
        "on the user's page."
    ]


def _signs(backend: Backend) -> bool:
    return any(key.state() == KeyState.ACTIVE for key in backend.tenant.keys.all())


def _unreached(patterns: Iterable[str], hostnames: Iterable[str]) -> list[str]:
    """Return the host routes' patterns that no hostname has in common, whichever of the two is a wildcard."""
    names = set(hostnames)
    parents = {_wildcard_of(name) for name in names}
    return [
        pattern
        for pattern in patterns
        if pattern not in names and pattern not in parents and _wildcard_of(pattern) not in names
    ]


def _listed(found: Iterable[str]) -> str:
    names = list(found)
    shown = ", ".join(shorten(name) for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _hostnames(backend: Backend) -> list[str]:
    return [link.hostname.name for link in backend.hostname_links.all()]


def _expiry_diagnostics(credential: Credential, now: datetime) -> list[str]:
    ends, next_at = credential.valid_until, credential.next_at
    if ends is None:
        return []
    when = f"{ends:%Y-%m-%d %H:%M} UTC"
    late = ""
    if next_at is not None and credential.claims_expires_at is not None and next_at > credential.claims_expires_at:
        late = f" The next one serves from {next_at:%Y-%m-%d %H:%M} UTC only, which is too late."
    if ends <= now:
        return [f"The token expired on {when}: nodes refuse it. Replace it.{late}"]
    if ends - now <= EXPIRES_SOON:
        days = (ends - now).days
        left = "within a day" if days < 1 else f"within {days + 1} days"
        return [f"The token expires {left}, on {when}: replace it before.{late}"]
    return []


def _claim_diagnostics(what: str, kept: dict[str, Any], backend: Backend) -> list[str]:
    """Return what nodes will do about claims that are not what the backend says.

    Args:
        what: the token, at the beginning of a sentence.
        kept: as `tenants.token_claims` keeps them; empty where they are not known.
    """
    if not kept:
        return []
    claims = Claims.from_json(kept, LENIENT)
    found = []
    hostnames = _hostnames(backend)
    names = {normalise_pattern(name) for name in claims.hostnames}
    if lacking := [name for name in hostnames if name not in names and _wildcard_of(name) not in names]:
        found.append(
            f"{what} does not claim {_listed(lacking)}: nodes send nothing for that. Have it signed with these "
            "hostnames."
        )
    if more := sorted(name for name in names if name not in hostnames and _wildcard_of(name) not in hostnames):
        found.append(
            f"{what} also claims {_listed(more)}: nodes send that here, where it is routed like any other name, or "
            "refused. Add it to the backend, or have the token signed without."
        )
    if claims.weight != backend.weight:
        found.append(f"{what} has the weight {claims.weight}, the backend {backend.weight}: nodes go by the token.")
    for transport, signed in (
        (Transport.TCP, claims.tcp_ports),
        (Transport.UDP, [route.port for route in claims.udp_routes]),
    ):
        claimed = {claim.public_port for claim in backend.port_claims.all() if claim.transport == transport}
        if lacking_ports := sorted(claimed.difference(signed)):
            found.append(
                f"{what} does not claim {transport.label} port {_listed(map(str, lacking_ports))}: nodes send nothing "
                "for that. Have it signed with these ports."
            )
        if more_ports := sorted(set(signed) - claimed):
            found.append(
                f"{what} also claims {transport.label} port {_listed(map(str, more_ports))}: nodes send that here. "
                "Claim it at the backend too, or have the token signed without."
            )
    if backend.outbound_allowed and not claims.outbound_allowed:
        found.append(f"{what} does not allow outbound connections: nodes refuse them. Have it signed with that.")
    return found


def _wildcard_of(name: str) -> str:
    label, _, parent = name.partition(".")
    return "" if label == "*" else f"*.{parent}"
