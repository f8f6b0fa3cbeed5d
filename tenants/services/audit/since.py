"""What was changed since somebody looked: who did it, and what it was before, from the audit trail.

The number of the newest entry is the version of everything in the registry: entries are written under the lock that
numbers the generations, so that a smaller one never appears after a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, models
from django.db.models import Max, Q

from tenants.changes.audit_entry import CREATED, DELETED, UPDATED, AuditEntry
from tenants.models import Tenant
from tenants.services.audit.presentation import model_of, shown_changes, summary

MOST: Final = 200
"""Entries that are looked at; with more of them the first so many are named, and that there are more."""

SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a field of a row was when somebody looked, and what it is now.

    Attributes:
        before, after: as the trail holds them.
        last: the newest entry that changed it.
    """

    before: Any
    after: Any
    last: AuditEntry


def version(using: str = DEFAULT_DB_ALIAS) -> int:
    """Return the version of the registry; read it before the rows that it is to stand for."""
    return AuditEntry.objects.using(using).aggregate(newest=Max("pk"))["newest"] or 0


def version_of(row: models.Model, below: Sequence[type[models.Model]] = ()) -> int:
    """Return the version of a row, and of the rows below it; unlike the registry's it tells nothing of other rows.

    Args:
        below: as for `of_row`.
    """
    found = AuditEntry.objects.filter(_whose(row, 0, below)).order_by("-pk")
    return found.values_list("pk", flat=True).first() or 0


def of_row(row: models.Model, version: int, below: Sequence[type[models.Model]] = ()) -> list[AuditEntry]:
    """Return the changes of a row, and of the rows below it, since a version; the oldest first.

    Args:
        below: models of rows that are shown with the row, where the trail counts them to another one.
    """
    found = _changes(version).filter(_whose(row, version, below))
    return list(found.exclude(~Q(object_id=str(row.pk)), model=row._meta.label_lower)[:MOST])


def _whose(row: models.Model, version: int, below: Sequence[type[models.Model]]) -> Q:
    whose = Q(pk__in=AuditEntry.objects.of_row(row).filter(pk__gt=version).values("pk"))
    for model in below:
        above = str(getattr(model, "tenant_lookup", None) or "").split("__")[:-1]
        for field in model._meta.concrete_fields:
            counted = above[:1] == [field.name]  # the trail counts it to this row already
            if isinstance(field, models.ForeignKey) and field.related_model is type(row) and not counted:
                keys = map(str, model._base_manager.filter(**{field.name: row}).values_list("pk", flat=True))
                whose |= Q(model=model._meta.label_lower, object_id__in=list(keys))
                whose |= Q(**{"model": model._meta.label_lower, f"changes__{field.name}__0__id": row.pk})
    return whose


def of_tenant(tenant: Tenant, version: int) -> list[AuditEntry]:
    """Return the changes of a tenant's rows since a version; the oldest first."""
    return list(_changes(version).filter(tenant_key=tenant.pk)[:MOST])


def _changes(version: int) -> models.QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(pk__gt=version, action__in=(CREATED, UPDATED, DELETED)).order_by("pk")


def by_field(entries: Sequence[AuditEntry]) -> dict[tuple[str, str], dict[str, FieldChange]]:
    """Return what became of the fields, by model and key of the row, and by name."""
    found: dict[tuple[str, str], dict[str, FieldChange]] = {}
    for entry in entries:
        fields = found.setdefault((entry.model, entry.object_id), {})
        for name, (before, after) in entry.changes.items():
            first = fields.get(name)
            fields[name] = FieldChange(first.before if first else before, after, entry)
    return found


def in_words(entries: Sequence[AuditEntry], user: Any = None) -> list[str]:
    """Return a line for each entry: when, who, and what.

    Args:
        user: the reader; None for one who may see everything.
    """
    lines = [_line(entry, user) for entry in entries[:SHOWN]]
    if len(entries) > SHOWN:
        more = f"{len(entries) - SHOWN}{' or' if len(entries) >= MOST else ''} more"
        lines.append(f"and {more}: see the history")
    return lines


def _line(entry: AuditEntry, user: Any) -> str:
    model = model_of(entry)
    noun = str(model._meta.verbose_name) if model is not None else entry.model
    if entry.action == CREATED:
        what = ", ".join(f"{each.field}: {each.after}" for each in shown_changes(entry, user)[:5] if each.after)
    else:
        what = summary(entry, user, most=8)
    who = entry.actor_name or "somebody"
    return f"{entry.instant:%Y-%m-%d %H:%M:%S} UTC, {who} {entry.action} the {noun} {entry.object_text}" + (
        f" ({what})" if what else ""
    )
