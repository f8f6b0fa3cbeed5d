"""TreeName: a name of the DNS with columns that find its neighbours by an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db import models

from tenants.fields import ReversedNameField
from tenants.names import parent_of, reversed_labels

DERIVED: Final = frozenset({"parent", "reversed_name"})


class TreeName(models.Model):
    """A row with a ``name``. What is directly below a name has it as parent; all below begins with it in reverse."""

    parent = models.CharField(max_length=255, blank=True, editable=False)
    reversed_name = ReversedNameField(max_length=256, blank=True, editable=False)

    class Meta:
        abstract = True

    def save(self, *, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """As `RegistryModel.save`; what is derived from a written name is written with it."""
        if update_fields is not None:
            names = set(update_fields)
            update_fields = names | DERIVED if "name" in names else names
        super().save(update_fields=update_fields, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def derive(self) -> None:
        """Fill what follows from the name."""
        if {"name", *DERIVED} <= self.__dict__.keys():
            name = str(self.__dict__["name"])
            self.parent, self.reversed_name = parent_of(name), reversed_labels(name)


def tree_indexes(model: str) -> list[models.Index]:
    """Return the indexes that both look-ups need; the second with the operator class that LIKE asks for."""
    return [
        models.Index(fields=["parent", "tenant"], name=f"{model}_parent"),
        models.Index(fields=["reversed_name"], name=f"{model}_under", opclasses=["varchar_pattern_ops"]),
    ]
