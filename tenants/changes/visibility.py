"""Visibility: one answer for a user, behind every ``for_user`` and every question of permission.

It is read once for a user of a request and kept until the request ends (`kept`). It is read again after the lock of the
generation was taken, since the writer before may have changed it, and after a row that decides about it was written.
Where no request is, as in commands, each question reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models

from tenants.changes.role import ALL_ROLES, SiteRoleName

MOST_LISTED: Final = 500
"""Tenants of one user that a query names by their keys; above, the database looks them up itself."""

_ROWS = TypeVar("_ROWS", bound=models.QuerySet[Any])
_NO_ROLES: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sight:
    """What one user sees and changes.

    Attributes:
        operator: an active superuser, who sees and changes everything.
        auditor: sees everything and changes nothing, whatever memberships there are.
        roles: the member's role by the tenant's key; empty for operators and auditors, who need none.
    """

    operator: bool = False
    auditor: bool = False
    roles: Mapping[int, str] = field(default_factory=lambda: _NO_ROLES)
    user_key: Any = None

    @property
    def sees_all(self) -> bool:
        """Whether the user looks at everything."""
        return self.operator or self.auditor

    def may_in(self, tenant_id: int | None, needed: frozenset[str]) -> bool:
        """Tell whether the user is an operator or has one of these roles in the tenant; None is no tenant."""
        return self.operator or (tenant_id is not None and self.roles.get(tenant_id) in needed)

    def may_anywhere(self, needed: frozenset[str]) -> bool:
        """Tell whether the user is an operator or has one of these roles in any tenant."""
        return self.operator or not needed.isdisjoint(self.roles.values())

    def tenants(self, needed: frozenset[str] = ALL_ROLES) -> Any:
        """Return the keys of the tenants where the user has one of these roles, for a filter that ends in ``__in``."""
        if len(self.roles) > MOST_LISTED:
            rows = apps.get_model("tenants", "Membership")._base_manager.filter(user_id=self.user_key, role__in=needed)
            return rows.values("tenant_id")
        return [tenant_id for tenant_id, role in self.roles.items() if role in needed]


NOTHING: Final = Sight()
_EVERYTHING: Final = Sight(operator=True)


class KeptSights(dict[int, tuple[Any, Sight]]):
    """The answers of one request, by the identity of the user object.

    The user object is kept beside its answer, so that no other one can have its identity in the meantime.
    """

    __slots__ = ("ended",)

    def __init__(self) -> None:
        super().__init__()
        self.ended = False


_kept: ContextVar[KeptSights | None] = ContextVar("tenants_kept_sights", default=None)


@contextmanager
def kept() -> Iterator[KeptSights]:
    """Keep the answers of `sight_of` inside, for one request.

    Threads and tasks that took a copy of the context along read for themselves once this has ended.
    """
    sights = KeptSights()
    token = _kept.set(sights)
    try:
        yield sights
    finally:
        _kept.reset(token)
        sights.ended = True
        sights.clear()


def forget() -> None:
    """Drop what is kept: something may have changed it."""
    sights = _kept.get()
    if sights is not None:
        sights.clear()


def is_operator(user: Any) -> bool:
    """Tell whether the user runs the whole installation: an active superuser."""
    return _is_someone(user) and bool(user.is_superuser)


def sees_all(user: Any) -> bool:
    """Tell whether the user may look at everything: an operator or an auditor."""
    return sight_of(user).sees_all


def sight_of(user: Any, using: str = DEFAULT_DB_ALIAS) -> Sight:
    """Return what the user sees and changes; nothing for None and for users who are not logged in or not active."""
    sights = _kept.get()
    if sights is None or sights.ended or using != DEFAULT_DB_ALIAS:
        return _read(user, using)
    known = sights.get(id(user))
    if known is None or known[0] is not user:
        known = sights[id(user)] = (user, _read(user, using))
    return known[1]


def seen_by(rows: _ROWS, user: Any, needed: frozenset[str] = ALL_ROLES, *, shared: bool = False) -> _ROWS:
    """Return those of the rows that the user may see.

    Args:
        rows: of a model whose ``tenant_lookup`` is the way to the row's tenant, None where it has none.
        needed: the roles that see a tenant's rows.
        shared: rows without a tenant are for the members of any.
    """
    sight = sight_of(user, rows.db)
    if sight.sees_all:
        return rows.all()
    if not sight.roles:
        return rows.none()
    lookup = getattr(rows.model, "tenant_lookup", None)
    if lookup is None:
        return rows.all() if shared else rows.none()
    return rows.filter(**{f"{lookup}__in": sight.tenants(needed)})


def _is_someone(user: Any) -> bool:
    return user is not None and bool(user.is_authenticated and user.is_active)


def _read(user: Any, using: str) -> Sight:
    """Read memberships and site role in one query."""
    if not _is_someone(user):
        return NOTHING
    if user.is_superuser:
        return _EVERYTHING
    members = apps.get_model("tenants", "Membership")._base_manager.using(using).filter(user_id=user.pk)
    site = apps.get_model("tenants", "SiteRole")._base_manager.using(using).filter(user_id=user.pk)
    nowhere = models.Value(None, output_field=models.BigIntegerField())
    roles_of_tenants = members.order_by().values_list("tenant_id", "role")
    role_of_site = site.order_by().annotate(tenant_id=nowhere).values_list("tenant_id", "role")
    found = list(roles_of_tenants.union(role_of_site, all=True))
    if (None, SiteRoleName.AUDITOR.value) in found:
        return Sight(auditor=True)
    roles = {tenant_id: role for tenant_id, role in found if tenant_id is not None}
    return Sight(roles=MappingProxyType(roles), user_key=user.pk) if roles else NOTHING
