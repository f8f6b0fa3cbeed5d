"""What the user of a request may see and change in the admin: `for_user` and the roles, read once a request."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from tenants.changes.base import RegistryModel
from tenants.models import Membership, Role, Tenant
from tenants.models.site_role import is_auditor
from tenants.services.access.permissions import is_operator, sees_all

ALL_ROLES = frozenset(Role.values)


def roles(request: HttpRequest) -> dict[int, str]:
    """Return the user's role by tenant id; an auditor has none, whatever memberships there are."""
    known: dict[int, str] | None = getattr(request, "_registry_roles", None)
    if known is None:
        user: Any = request.user
        is_member = user.is_authenticated and user.is_active and not is_auditor(user)
        rows = Membership.objects.filter(user_id=user.pk) if is_member else ()
        known = {row.tenant_id: row.role for row in rows}
        request._registry_roles = known  # type: ignore[attr-defined]
    return known


def forget_roles(request: HttpRequest) -> None:
    """Let the roles be read anew at the next question."""
    request.__dict__.pop("_registry_roles", None)


def tenant_id_of(row: Model | None) -> int | None:
    """Return the id of the tenant that a row belongs to; None where it has none (yet)."""
    lookup = getattr(row, "tenant_lookup", None)
    if row is None or lookup is None:
        return None
    if lookup == "pk":
        return row.pk
    *path, last = lookup.split("__")
    owner: Any = row
    for name in path:
        if getattr(owner, f"{name}_id") is None:
            return None
        owner = getattr(owner, name)
    tenant_id: int | None = getattr(owner, f"{last}_id")
    return tenant_id


def allowed(request: HttpRequest, row: Model | None, needed: frozenset[str]) -> bool:
    """Tell whether the user is an operator, or has one of these roles in the row's tenant (in any, without a row).

    This is the question of whoever changes something; who only looks is asked about by `visible`.
    """
    if is_operator(request.user):
        return True
    if is_auditor(request.user):
        return False
    held = roles(request)
    tenant_id = tenant_id_of(row)
    if tenant_id is not None:
        return held.get(tenant_id) in needed
    return bool(needed.intersection(held.values()))


def visible(request: HttpRequest, row: Model | None, needed: frozenset[str]) -> bool:
    """Tell whether the user may look: as `allowed`, and auditors at everything."""
    return is_auditor(request.user) or allowed(request, row, needed)


def choices_for(request: HttpRequest, related: type[Model], model: type[RegistryModel]) -> QuerySet[Any]:
    """Return the rows that the user may point to from a row of `model`."""
    user = request.user
    if issubclass(related, Tenant):
        if sees_all(user):
            return Tenant.objects.all()
        return Tenant.objects.filter(
            pk__in=[tenant_id for tenant_id, role in roles(request).items() if role in model.edit_roles]
        )
    if issubclass(related, RegistryModel):
        if is_auditor(user):
            return related.objects.all()
        return related.objects.editable_by(user) if related.edit_roles else related.objects.for_user(user)
    return related._default_manager.all() if sees_all(user) else related._default_manager.none()
