"""The gate of the admin: what the user of a request may see and change, read once a request."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from tenants.changes.base import RegistryModel
from tenants.changes.role import ALL_ROLES
from tenants.changes.visibility import KeptSights, Sight, sight_of
from tenants.models import Tenant


def sight(request: HttpRequest) -> Sight:
    """Return what the user of the request sees and changes, read once and again under the generation's lock."""
    user: Any = request.user
    kept: KeptSights | None = getattr(request, "sights", None)  # of `tenants.middleware`
    known = None if kept is None else kept.get(id(user))
    return known[1] if known is not None and known[0] is user else sight_of(user)


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

    This is the question before a change; `visible` is the one before a look.
    """
    seen = sight(request)
    if seen.operator:
        return True
    if not seen.roles:
        return False
    tenant_id = tenant_id_of(row)
    if tenant_id is not None:
        return seen.roles.get(tenant_id) in needed
    return seen.may_anywhere(needed)


def visible(request: HttpRequest, row: Model | None, needed: frozenset[str]) -> bool:
    """Tell whether the user may look: as `allowed`, and auditors at everything."""
    return sight(request).auditor or allowed(request, row, needed)


def choices_for(request: HttpRequest, related: type[Model], model: type[RegistryModel]) -> QuerySet[Any]:
    """Return the rows that the user may point to from a row of `model`."""
    user, seen = request.user, sight(request)
    if issubclass(related, Tenant):
        return Tenant.objects.all() if seen.sees_all else Tenant.objects.filter(pk__in=seen.tenants(model.edit_roles))
    if issubclass(related, RegistryModel):
        if seen.auditor:
            return related.objects.all()
        return related.objects.editable_by(user) if related.edit_roles else related.objects.for_user(user)
    return related._default_manager.all() if seen.sees_all else related._default_manager.none()


class MembershipGate:
    """The part of an admin class or inline that shows and lets change what the memberships say.

    Rows are those that `for_user` gives; those may be changed whose tenant the user may edit. Django's permissions of
    single models play no part. Auditors see all of it.

    Class attributes:
        view_roles: the roles that see these rows in the admin.
    """

    model: type[RegistryModel]
    view_roles: frozenset[str] = ALL_ROLES

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)  # type: ignore[misc]
        return rows.for_user(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return visible(request, obj, self.view_roles)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, obj, self.model.edit_roles)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, obj, self.model.edit_roles)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, obj, self.model.edit_roles)
