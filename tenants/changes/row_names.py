"""The name of a row, its tenant and its root, also where rows that it refers to are gone; text for any database."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db import models

from relay.errors import shorten

TEXT_LENGTH: Final = 300


def text_of(row: models.Model) -> str:
    """Name a row for people, whatever is left of what it refers to."""
    try:
        return clean_text(str(row), TEXT_LENGTH)
    except (ObjectDoesNotExist, FieldDoesNotExist):
        return f"{row._meta.verbose_name} {row.pk}"


def clean_text(text: str, length: int) -> str:
    """Return text that every database takes, cut to a length."""
    return shorten(text.replace("\0", "␀").encode("utf-8", "replace").decode(), length)


def clean_value(value: Any) -> Any:
    """Return a value for `Entry.changes` with text that every database takes; untrusted input may be in it."""
    if isinstance(value, str):
        return clean_text(value, len(value))
    if isinstance(value, dict):
        return {clean_value(key): clean_value(each) for key, each in value.items()}
    return [clean_value(each) for each in value] if isinstance(value, list | tuple) else value


def tenant_of(row: models.Model) -> tuple[int, str] | None:
    """Return key and slug of a row's tenant; None where it has none."""
    lookup = getattr(row, "tenant_lookup", None)
    if not lookup:
        return None
    owner: Any = row
    try:
        for name in () if lookup == "pk" else lookup.split("__"):
            owner = getattr(owner, name)
    except ObjectDoesNotExist:
        return None
    return None if owner is None else (owner.pk, owner.slug)


def root_of(row: models.Model) -> str:
    """Return the name of the row below a tenant that this one belongs to; empty without one."""
    path = str(getattr(row, "tenant_lookup", None) or "").split("__")[:-1]
    owner: Any = row
    try:
        for name in path:
            owner = getattr(owner, name)
    except ObjectDoesNotExist:
        return ""
    return "" if owner is row or owner is None else f"{owner._meta.label_lower} {owner.pk}"
