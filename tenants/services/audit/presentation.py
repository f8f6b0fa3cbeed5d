"""Audit entries as people read them: which fields, what they were and what they are; as CSV and JSON too."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from tenants.changes.audit_entry import AuditEntry
from tenants.changes.differences import SEALED
from tenants.changes.visibility import sees_all

COLUMNS: Final = (
    "id", "instant", "batch", "actor", "origin", "address", "tenant", "model", "object_id", "object", "action",
    "changes",
)  # fmt: skip
FORMATS: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class ShownChange:
    """One field of an entry, in words; None for nothing."""

    field: str
    before: str | None
    after: str | None


def visible_changes(entry: AuditEntry, user: Any) -> dict[str, Any]:
    """Return the changes without what is not for this user: what only operators see, and keys of other tenants' rows.

    Args:
        user: None for a reader who may see everything.
    """
    return _changes(entry, user is None or sees_all(user))


def _changes(entry: AuditEntry, everything: bool) -> dict[str, Any]:
    if everything:
        return dict(entry.changes)
    hidden: frozenset[str] = getattr(model_of(entry), "operator_fields", frozenset())
    return {name: _without_keys(value) for name, value in entry.changes.items() if name not in hidden}


def _without_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_keys(each) for each in value]
    if isinstance(value, dict) and str(value.get("text", "")).startswith("another tenant"):
        return {"text": value["text"]}
    return value


def model_of(entry: AuditEntry) -> type[models.Model] | None:
    """Return the model of the row that the entry is about; None where there is none (any more)."""
    try:
        return apps.get_model(entry.model) if entry.model else None
    except LookupError:
        return None


def shown_changes(entry: AuditEntry, user: Any) -> list[ShownChange]:
    """Return what the entry says, field by field."""
    model, found = model_of(entry), []
    for name, value in visible_changes(entry, user).items():
        label, choices = name.replace("_", " "), {}
        if model is not None:
            try:
                field: Any = model._meta.get_field(name)
            except FieldDoesNotExist:
                pass
            else:
                label, choices = str(field.verbose_name), dict(getattr(field, "flatchoices", ()))
        if isinstance(value, list) and len(value) == 2:
            found.append(ShownChange(label, in_words(value[0], choices), in_words(value[1], choices)))
        else:
            found.append(ShownChange(label, None, in_words(value, choices)))
    return found


def in_words(value: Any, choices: Mapping[Any, Any] | None = None) -> str | None:
    """Return a value of an entry for people; None for nothing."""
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        if "secret" in value:
            secret = value["secret"]
            return {SEALED: "a secret that no key opens", "not kept": "a secret"}.get(
                secret, f"secret with fingerprint {secret}"
            )
        if "text" in value:
            return f"{value['text']} (#{value['id']})" if "id" in value else str(value["text"])
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ", ".join(str(in_words(each)) if not isinstance(each, str) else each for each in value)
    if choices and isinstance(value, str | int) and value in choices:
        return str(choices[value])
    return str(value)


def summary(entry: AuditEntry, user: Any, most: int = 3) -> str:
    """Return the entry's changes in one line."""
    if entry.action not in ("created", "deleted"):
        shown = [
            f"{each.field}: {_short(each.before)} → {_short(each.after)}" if each.before or each.after else each.field
            for each in shown_changes(entry, user)
        ]
        more = f" and {len(shown) - most} more" if len(shown) > most else ""
        return "; ".join(shown[:most]) + more
    return ""


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text if len(text) <= 60 else text[:59] + "…"


# -- files


def export(entries: models.QuerySet[AuditEntry], file_format: str, user: Any) -> Iterator[str]:
    """Yield the entries as a CSV or JSON file, a few at a time.

    Args:
        file_format: one of `FORMATS`.
        user: the reader; None for one who may see everything.
    """
    everything = user is None or sees_all(user)  # asked here: the file is sent after the request has ended
    rows = (_row(entry, everything) for entry in entries.iterator(chunk_size=1_000))
    return _csv(rows) if file_format == "csv" else _json(rows)


def _row(entry: AuditEntry, everything: bool) -> dict[str, Any]:
    values = (
        entry.pk,
        entry.instant.isoformat(),
        str(entry.batch),
        entry.actor_name,
        entry.origin,
        entry.address,
        entry.tenant_slug,
        entry.model,
        entry.object_id,
        entry.object_text,
        entry.action,
        _changes(entry, everything),
    )
    return dict(zip(COLUMNS, values, strict=True))


class _Line:
    """Takes what a csv.writer writes."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    writer: Any = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows:
        texts = [json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value for value in row.values()]
        yield writer.writerow([harmless(text) for text in texts])


def harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "["
    before = "\n"
    for row in rows:
        yield before + json.dumps(row, ensure_ascii=False)
        before = ",\n"
    yield "\n]\n"
