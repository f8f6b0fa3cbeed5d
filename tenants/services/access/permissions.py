"""Permissions of users. Which rows are seen and changed at all: `for_user` and `editable_by` of the managers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from relay.config.target_policy import in_port_ranges, parse_port_ranges
from tenants.changes.role import EDIT_ROLES, OWNERS, Role
from tenants.changes.visibility import is_operator as is_operator
from tenants.changes.visibility import sees_all as sees_all
from tenants.changes.visibility import sight_of
from tenants.models.backend import Backend
from tenants.models.credential import Credential, CredentialKind
from tenants.models.domain import Domain
from tenants.models.hostname import Hostname
from tenants.models.invitation import Invitation
from tenants.models.membership import Membership
from tenants.models.port_claim import PortClaim
from tenants.models.revocation import Revocation
from tenants.models.tenant import Tenant
from tenants.models.tenant_key import TenantKey
from tenants.names import base_of, is_public_suffix
from tenants.rules import ownership

OPERATOR_KINDS = frozenset({CredentialKind.COMMAND, CredentialKind.HMAC_SECRET_FILE})
"""Kinds of credentials that reach into the relay's machine: they run a program there or read a file."""


def role_in(user: Any, tenant: Tenant | None) -> Role | None:
    """Return the user's role in the tenant; None for no member. An operator needs none; an auditor has none."""
    role = None if tenant is None else sight_of(user).roles.get(tenant.pk)
    return None if role is None else Role(role)


def may_view(user: Any, tenant: Tenant | None) -> bool:
    """Tell whether the user may look at the tenant's rows."""
    sight = sight_of(user)
    return sight.sees_all or (tenant is not None and tenant.pk in sight.roles)


def may_edit(user: Any, tenant: Tenant | None) -> bool:
    """Tell whether the user may change the tenant's backends, hostnames and all that belongs to them."""
    return sight_of(user).may_in(None if tenant is None else tenant.pk, EDIT_ROLES)


def may_manage_members(user: Any, tenant: Tenant | None) -> bool:
    """Tell whether the user may give and take roles in the tenant."""
    return sight_of(user).may_in(None if tenant is None else tenant.pk, OWNERS)


def credential_kinds(user: Any) -> list[CredentialKind]:
    """Return the kinds of credentials that the user may choose."""
    return [kind for kind in CredentialKind if kind not in OPERATOR_KINDS or is_operator(user)]


def check_credential(user: Any, credential: Credential, stored: Credential | None = None) -> None:
    """Refuse that users other than operators make the relay's machine run a program or read a file.

    Args:
        user: who saves it.
        credential: as it is to be saved.
        stored: as it was; None for a new one. What an operator has set up may stay as it is.

    Raises:
        ValidationError: for ``kind``.
    """
    if is_operator(user) or credential.kind not in OPERATOR_KINDS:
        return
    fields = ("kind", "secret_file", "command", "args", "env", "timeout")
    if stored is None or credential.differs_from(stored, set(fields)):
        raise ValidationError(
            {"kind": "Only operators may use this kind of credential: use a pre-signed token or an HMAC secret."}
        )


def check_backend(user: Any, backend: Backend, stored: Backend | None = None) -> None:
    """Refuse that anyone but an operator opens a port on the relay's machine, or a way out through the nodes.

    The port on loopback too: a listener there can take the place of one of the operator's own services.

    Args:
        user: who saves it.
        backend: as it is to be saved.
        stored: as it was; None for a new one. What an operator has set up may stay as it is, or become less.

    Raises:
        ValidationError: by field.
    """
    if is_operator(user):
        return
    errors = {}
    if backend.socks5_listen and (stored is None or backend.socks5_listen != stored.socks5_listen):
        errors["socks5_listen"] = (
            "Only operators may open a port on the relay's machine: leave it blank, or ask one for it."
        )
    if backend.outbound_allowed:
        if stored is None or not stored.outbound_allowed:
            errors["outbound_allowed"] = (
                "Only operators may let a backend connect out through the nodes: leave it off, or ask one for it."
            )
        elif _more_ports(backend.allowed_outbound_ports, stored.allowed_outbound_ports):
            errors["allowed_outbound_ports"] = (
                f"Only operators may add ports: keep to {stored.allowed_outbound_ports}, or ask one for more."
            )
    if errors:
        raise ValidationError(errors)


def _more_ports(ports: list[int], before: list[int]) -> bool:
    """Tell whether a list, where an empty one means all ports, allows more than the one before."""
    return bool(before) and (not ports or not set(ports) <= set(before))


def check_row(user: Any, row: Any, stored: Any = None) -> None:
    """Refuse what this user may not make of a row, beside what the roles say; forms ask the same for each kind.

    Args:
        user: who saves it.
        row: as it is to be saved; None where it is to be deleted.
        stored: as it was; None for a new one.

    Raises:
        ValidationError: by field.
    """
    if isinstance(row, Credential):
        check_credential(user, row, stored)
    elif isinstance(row, Backend):
        check_backend(user, row, stored)
    elif isinstance(row, Hostname):
        check_hostname(user, row, stored)
    elif isinstance(row, Domain):
        check_domain(user, row, stored)
    elif isinstance(row, PortClaim):
        check_port_claim(user, row, stored)
    if not is_operator(user):
        _check_final(row, stored)
    people = {each.user_id for each in (row, stored) if isinstance(each, Membership)}
    if not is_operator(user) and user.pk in people:
        # Who could take the own role away could leave the tenant without an owner.
        raise ValidationError("Another owner or an operator has to change your own membership.")


def _check_final(row: Any, stored: Any) -> None:
    """Refuse to undo what is for good: the pages of these rows have no button for it, and nothing else may."""
    if isinstance(stored, Revocation):
        raise ValidationError("A token that is taken back stays so: issue a new one.")
    if isinstance(stored, TenantKey) and row is None:
        raise ValidationError("A key is not deleted, since it says what it has signed: revoke it.")
    if isinstance(stored, TenantKey) and stored.revoked_at is not None:
        raise ValidationError("A revoked key stays as it is: make a new one.")
    if isinstance(stored, Invitation) and row is not None and stored.accepted_at is not None:
        raise ValidationError("The invitation is accepted: give the member another role.")


def refused_hostnames(user: Any, tenant_id: int, names: Iterable[str]) -> set[str]:
    """Return which of these names, in their normal form, the user may not add to the tenant.

    Members may have names under a proved domain of the tenant, or granted by the owner of theirs; operators any. Asked
    before whether a name is free, so that members cannot find out by it which names others have.
    """
    if is_operator(user):
        return set()
    if not settings.REQUIRE_DOMAINS:
        return {name for name in names if is_public_suffix(base_of(name))}  # *.co.uk would be in the way of all
    return ownership.uncovered(tenant_id, names)


def check_hostname(user: Any, hostname: Hostname, stored: Hostname | None = None) -> None:
    """Refuse a name that the user may not add; one that is there may stay.

    Raises:
        ValidationError: for ``name``.
    """
    if stored is not None and (stored.name, stored.tenant_id) == (hostname.name, hostname.tenant_id):
        return
    if refused_hostnames(user, hostname.tenant_id, [hostname.name]):
        raise ValidationError({"name": ownership.NO_DOMAIN})


def check_port_claim(user: Any, claim: PortClaim, stored: PortClaim | None = None) -> None:
    """Refuse a public port that the user may not have the backend claim; one that is there may stay.

    Members may claim what operators have given the tenant (`Tenant.public_ports`): a port has no owner that could be
    proved, and nodes share its streams by weight among all who claim it. Operators may claim any.

    Raises:
        ValidationError: for ``public_port``.
    """
    if is_operator(user):
        return
    if stored is not None and not claim.differs_from(stored, {"backend", "transport", "public_port"}):
        return
    given = claim.backend.tenant.public_ports
    if not in_port_ranges(claim.public_port, parse_port_ranges(given)):
        raise ValidationError(
            {
                "public_port": f"{claim.public_port} is not one of the public ports that the tenant has been given "
                f"({given or 'none'}): ask an operator for it."
            }
        )


def check_domain(user: Any, domain: Domain, stored: Domain | None = None) -> None:
    """Refuse that users other than operators make a claim a proved one: the DNS does, or an operator.

    Raises:
        ValidationError: for ``name``.
    """
    if domain.is_verified and not (stored is not None and stored.is_verified) and not is_operator(user):
        raise ValidationError({"name": "A claim is proved by its DNS record, or given by an operator: claim it again."})
