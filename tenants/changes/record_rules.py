"""Which models are on record, and what of their fields."""

from __future__ import annotations

from typing import NamedTuple

from django.apps import apps
from django.db import models


class RecordRules(NamedTuple):
    """What is kept of a model's fields.

    Attributes:
        ignored: fields whose change does not count.
        hidden: fields of which only is kept that they changed.
    """

    ignored: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


_rules: dict[type[models.Model], RecordRules] = {}


def set_rules(model: type[models.Model], rules: RecordRules) -> None:
    """Say what is kept of a model that is not a `RegistryModel`."""
    _rules[model] = rules


def rules_of(model: type[models.Model]) -> RecordRules:
    """Return what is kept of the model's fields."""
    return _rules.get(model) or RecordRules(ignored=getattr(model, "not_on_record", frozenset()))


def on_record() -> list[type[models.Model]]:
    """Return the models whose changes are on record."""
    return [model for model in apps.get_models() if model in _rules or hasattr(model, "not_on_record")]
