"""Checks of rows against other rows and against the tenant's rights, which models are given from outside.

A model's own `RegistryModel.check_own_rows` knows what no constraint of a single table can. Rules that need more than
the model's neighbours register themselves here (`tenants.rules.registration`), so that models know no rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from django.db import models

RowsCheck = Callable[[Sequence[Any], str], None]
"""Gets rows of one model in their normal form, and the database's alias; raises ValidationError. Under the lock."""

RowCheck = Callable[[Any], None]
"""Gets one row, whose related objects may be unsaved; raises ValidationError. For ``Model.clean``."""


class _Registered(NamedTuple):
    check: RowsCheck
    fields: frozenset[str]
    clean: RowCheck | None


_registered: dict[type[models.Model], dict[str, _Registered]] = {}


def register(
    model: type[models.Model],
    name: str,
    check: RowsCheck,
    *,
    fields: Collection[str] = (),
    clean: RowCheck | None = None,
) -> None:
    """Have a check called on every way to write rows of the model, in the order of registration.

    Args:
        name: of the check; a second one of this name takes the first one's place.
        fields: those that it looks at, where ``QuerySet.update`` and ``bulk_update`` may write them; others, which they
            refuse or which it does not look at, need not be named.
        clean: the same for one row by its related objects as they are, for ``full_clean`` and forms.
    """
    _registered.setdefault(model, {})[name] = _Registered(check, frozenset(fields), clean)


def names_of(model: type[models.Model]) -> list[str]:
    """Return the names of the model's checks."""
    return list(_registered.get(model, ()))


def checked_fields(model: type[models.Model]) -> frozenset[str]:
    """Return the fields that checks look at when rows are updated in bulk."""
    return frozenset().union(*(each.fields for each in _registered.get(model, {}).values()))


def check(model: type[models.Model], rows: Sequence[Any], using: str) -> None:
    """Run the model's checks.

    Raises:
        ValidationError: a row contradicts another one, or is more than its tenant may have.
    """
    for each in _registered.get(model, {}).values():
        each.check(rows, using)


def clean(row: models.Model) -> None:
    """Run the checks that take one row before it is saved.

    Raises:
        ValidationError: by field.
    """
    for each in _registered.get(type(row), {}).values():
        if each.clean is not None:
            each.clean(row)
