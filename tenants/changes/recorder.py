"""The recorder of one transaction: what its rows were before, and what they are after, made into audit entries.

Rows are noted as plain tuples when they are written. When the batch ends, all of them become entries together, in a
number of queries that does not grow with the rows but by the `CHUNK` of `tenants.changes.differences`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import models
from django.db.models import DEFERRED

from tenants.changes import entries, visibility
from tenants.changes.differences import Differences
from tenants.changes.entries import Entry
from tenants.changes.snapshots import Snapshot, concrete, names_of, snapshot


class ChangeRecorder:
    """What has changed so far; a row that changes twice is one change, one that changes back is not a change."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._rows: dict[tuple[type[models.Model], Any], list[Snapshot | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def created(self, rows: Iterable[models.Model]) -> None:
        """Note rows that were just inserted."""
        for row in self._readable(rows):
            self._note(row, None, snapshot(row))

    def changed(self, before: models.Model, after: models.Model, names: set[str] | None = None) -> None:
        """Note a row that was just updated.

        Args:
            names: of the fields that were written; None for all.
        """
        old, new = snapshot(before), list(snapshot(after))
        for place, field in enumerate(before._meta.concrete_fields):
            if new[place] is DEFERRED or (names is not None and not names & {field.name, field.attname}):
                new[place] = old[place]
        if any(hasattr(value, "resolve_expression") for value in new):
            stored = type(before)._base_manager.using(self._using).get(pk=before.pk)
            new = list(snapshot(stored))
        self._note(before, old, tuple(new))

    def updated(self, rows: Iterable[models.Model], values: Mapping[str, Any]) -> None:
        """Note rows whose fields of these names were just set to these values, which hold no expression."""
        for row in rows:
            new = list(before := snapshot(row))
            for place, field in enumerate(row._meta.concrete_fields):
                for name in {field.name, field.attname} & values.keys():
                    value = values[name]
                    new[place] = value.pk if isinstance(value, models.Model) else copy.deepcopy(value)
            self._note(row, before, tuple(new))

    def deleted(self, rows: Iterable[models.Model]) -> None:
        """Note rows that are about to be deleted."""
        for row in self._readable(rows):
            self._note(row, snapshot(row), None)

    def _note(self, row: models.Model, before: Snapshot | None, after: Snapshot | None) -> None:
        key = (concrete(type(row)), row.pk)
        if getattr(key[0], "decides_sight", False):
            visibility.forget()
        known = self._rows.get(key)
        if known is None:
            self._rows[key] = [before, after]
        else:
            known[1] = after

    def _readable(self, rows: Iterable[models.Model]) -> Iterator[models.Model]:
        """Yield the rows, read again where a field was left out or holds an expression."""
        for row in rows:
            values = [row.__dict__.get(name, DEFERRED) for name in names_of(type(row))]
            if any(value is DEFERRED or hasattr(value, "resolve_expression") for value in values):
                row = type(row)._base_manager.using(self._using).get(pk=row.pk)
            yield row

    # -- what is written

    def write(self) -> None:
        """Add an entry for every row that differs; in the transaction of the change."""
        if self._rows:
            entries.write(self._entries(), self._using)

    def _entries(self) -> list[Entry]:
        changed = {key: pair for key, pair in self._rows.items() if pair[0] is not pair[1]}
        context = Differences(self._using, self._rows, changed)
        found = []
        for (model, key), (before, after) in changed.items():
            changes = context.changes(model, before, after)
            if changes or before is None or after is None:
                found += context.entries(model, key, before, after, changes)
        return found
