"""Limits of a tenant's backends and hostnames. Checked under the generation's lock, on every way to write rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError

from tenants.changes.querysets import chunks
from tenants.models.tenant import Tenant


def check_numbers(rows: Sequence[Any], using: str) -> None:
    """Refuse rows, all backends or all hostnames, that would be more than their tenants may have.

    What a tenant has already stays, also where its limit is lowered.

    Raises:
        ValidationError: for ``name``; says what, how many, and who may change it.
    """
    if not rows:
        return
    model = type(rows[0])
    field = f"max_{model._meta.model_name}s"
    limits: dict[int, tuple[str, int]] = {}
    for part in chunks({row.tenant_id for row in rows}):
        limited = Tenant._base_manager.using(using).filter(pk__in=part, **{f"{field}__gt": 0})
        limits |= {key: (slug, limit) for key, slug, limit in limited.values_list("pk", "slug", field)}
    if not limits:
        return
    stored: dict[Any, int] = {}
    for part in chunks(row.pk for row in rows if row.pk is not None):
        stored |= dict(model._base_manager.using(using).filter(pk__in=part).values_list("pk", "tenant_id"))
    added = Counter(row.tenant_id for row in rows if stored.get(row.pk) != row.tenant_id)
    for tenant_id in limits.keys() & added.keys():
        slug, limit = limits[tenant_id]
        message = _excess(model, slug, limit, _number(model, tenant_id, using), added[tenant_id])
        if message:
            raise ValidationError({"name": message}, code="limit")


def excess(model: type[Any], tenant: Tenant, added: int, removed: int = 0, using: str = "default") -> str:
    """Return what is wrong with so many more backends or hostnames of the tenant; empty for nothing."""
    limit = getattr(tenant, f"max_{model._meta.model_name}s")
    if not limit or added <= 0:
        return ""
    number = _number(model, tenant.pk, using) - removed if tenant.pk is not None else 0
    return _excess(model, tenant.slug, limit, number, added)


def _number(model: type[Any], tenant_id: int, using: str) -> int:
    found: int = model._base_manager.using(using).filter(tenant_id=tenant_id).count()
    return found


def _excess(model: type[Any], slug: str, limit: int, number: int, added: int) -> str:
    if number + added <= limit:
        return ""
    noun = model._meta.verbose_name_plural
    more = f"and these would be {added} more" if added > 1 else "so this would be one too many"
    return (
        f"The tenant {slug} has {number} {noun} and may have {limit}, {more}: remove some, or ask an operator for a "
        "higher limit."
    )
