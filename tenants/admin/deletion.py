"""Counts of what a deletion removes: with a large tenant it is tens of thousands of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.db.models import Model, ProtectedError
from django.db.models.deletion import Collector


class _Finder(Collector):
    """Collector that finds what a deletion reaches, and deletes nothing: no signal needs whole rows."""

    def _has_signal_listeners(self, model: type[Model]) -> bool:
        return False


def numbers(rows: Sequence[Model], using: str) -> tuple[dict[type[Model], int], list[Any]]:
    """Return how many rows of each model go with these, themselves included, and what keeps them from going."""
    finder: Any = _Finder(using=using)
    try:
        finder.collect(rows)
    except ProtectedError as error:
        return {}, list(error.protected_objects)
    keys: dict[type[Model], set[Any]] = defaultdict(set)
    for model, found in finder.data.items():
        keys[model].update(row.pk for row in found)
    for query in finder.fast_deletes:  # rows of which nothing hangs on; some are reached in two ways
        keys[query.model].update(query.values_list("pk", flat=True))
    return {model: len(found) for model, found in keys.items() if found}, []
