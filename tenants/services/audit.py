"""The audit trail: who acts (`acting`), and what is put on record beside the changes of rows (`record`)."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from tenants.services import trail
from tenants.services.acting import ADMIN, API, COMMAND, IMPORT, SYSTEM, VERIFIER, Actor, acting, actor

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
    """Put something on record that is no change of a row: a refused token, a log-in, an export.

    Rows of the registry do not need it: whatever writes them is recorded.

    Args:
        action: what happened, a verb in the past as in "token refused"; at most 40 characters.
        row: what it happened to.
        tenant: whose record it belongs to; the row's where it has one. Its owners read what is given here.
        text: what it is about, in place of the row's own text.
        changes: details by name. Never a secret: `tenants.services.fingerprints` names one.
    """
    write = entry(action, row, tenant=tenant, text=text, changes=changes)
    trail.write([write], using)


def entry(
    action: str,
    row: models.Model | None = None,
    *,
    tenant: Any = None,
    text: str = "",
    changes: dict[str, Any] | None = None,
) -> Any:
    """Return what `record` would store, for many at once by `tenants.services.trail.write`."""
    about: dict[str, Any] = {"object_text": trail.clean_text(text, trail.TEXT_LENGTH)}
    if row is not None:
        about = {
            "model": row._meta.label_lower,
            "object_id": str(row.pk),
            "object_text": about["object_text"] or trail.text_of(row),
        }
    owner = (tenant.pk, tenant.slug) if tenant is not None else trail.tenant_of(row) if row is not None else None
    return trail.entry(action=trail.clean_text(action, 40), tenant=owner, changes=_clean(changes or {}), **about)


def _clean(value: Any) -> Any:
    """Return the value with text that every database takes: what is recorded may come from anybody."""
    if isinstance(value, str):
        return trail.clean_text(value, len(value))
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list | tuple) else value
