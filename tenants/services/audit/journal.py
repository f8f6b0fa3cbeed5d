"""The audit trail: the actor (`acting`), and records of what is not a change of a row (`record`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, models
from django.utils import timezone

from tenants.changes import entries, row_names
from tenants.changes.actor import ADMIN, API, COMMAND, IMPORT, SYSTEM, VERIFIER, Actor, acting, actor
from tenants.changes.audit_entry import AuditEntry

PRUNED_AT_ONCE: Final = 5_000
__all__ = ["ADMIN", "API", "COMMAND", "IMPORT", "SYSTEM", "VERIFIER", "Actor", "acting", "actor", "record"]


def record(
    action: str,
    row: models.Model | None = None,
    *,
    tenant: Any = None,
    text: str = "",
    changes: dict[str, Any] | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Put something on record that is not a change of a row: a refused token, a log-in, an export.

    Rows of the registry do not need it: every write of them is recorded.

    Args:
        action: what happened, a verb in the past as in "token refused"; at most 40 characters.
        row: what it happened to.
        tenant: whose record it belongs to; the row's where it has one. Its owners read what is given here.
        text: what it is about, in place of the row's own text.
        changes: details by name. Never a secret: `tenants.changes.fingerprints` names one.
    """
    entries.write([entry(action, row, tenant=tenant, text=text, changes=changes)], using)


def entry(
    action: str,
    row: models.Model | None = None,
    *,
    tenant: Any = None,
    text: str = "",
    changes: dict[str, Any] | None = None,
) -> entries.Entry:
    """Return what `record` would store, for many at once by `tenants.changes.entries.write`."""
    owner = (tenant.pk, tenant.slug) if tenant is not None else None if row is None else row_names.tenant_of(row)
    tenant_key, tenant_slug = owner or (None, "")
    text = row_names.clean_text(text, row_names.TEXT_LENGTH)
    return entries.Entry(
        action=row_names.clean_text(action, 40),
        tenant_key=tenant_key,
        tenant_slug=tenant_slug,
        model="" if row is None else row._meta.label_lower,
        object_id="" if row is None else str(row.pk),
        object_text=text if text or row is None else row_names.text_of(row),
        root="" if row is None else row_names.root_of(row),
        changes=row_names.clean_value(changes or {}),
    )


def prune() -> str:
    """Delete what is older than settings.AUDIT_DAYS, a batch a transaction; return what was done, in words."""
    if not settings.AUDIT_DAYS:
        return ""
    before = timezone.now() - timedelta(days=settings.AUDIT_DAYS)
    gone = 0
    while part := AuditEntry.objects.prune(before, PRUNED_AT_ONCE):
        gone += part
    return f"{gone} audit entries from before {before:%Y-%m-%d} deleted" if gone else ""
