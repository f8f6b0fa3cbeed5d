"""What a row holds at one moment, as a plain tuple."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from django.db import models
from django.db.models import DEFERRED
from django.views.decorators.debug import sensitive_variables

Snapshot = tuple[Any, ...]
"""What a row holds, in the order of its model's concrete fields."""


def concrete(model: Any) -> type[models.Model]:
    """Return the model whose table holds the rows."""
    found: type[models.Model] = model._meta.concrete_model
    return found


@lru_cache(maxsize=256)
def names_of(model: type[models.Model]) -> tuple[str, ...]:
    """Return the attributes of a `Snapshot`, in its order."""
    return tuple(field.attname for field in model._meta.concrete_fields)


@lru_cache(maxsize=256)
def references_of(model: type[models.Model]) -> tuple[tuple[int, Any, type[models.Model]], ...]:
    """Return place, field and target of the model's foreign keys."""
    return tuple(
        (place, field, concrete(field.related_model))
        for place, field in enumerate(model._meta.concrete_fields)
        if isinstance(field, models.ForeignKey)
    )


@sensitive_variables()
def snapshot(row: models.Model) -> Snapshot:
    """Return what the row holds now; secrets as they are, in clear or sealed."""
    state = row.__dict__
    return tuple(
        [
            copy.deepcopy(value) if isinstance(value, list | dict) else value
            for value in [state.get(name, DEFERRED) for name in names_of(type(row))]
        ]
    )
