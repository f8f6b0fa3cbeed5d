"""Constraints that carry the field at which their message belongs, for forms, ``full_clean`` and imports alike."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models


class _WithField:
    """The part of a constraint that raises its message for a field.

    To the database, and so to migrations, it is Django's own constraint.
    """

    def __init__(self, *, field: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.field = field

    def validate(self, model: Any, instance: models.Model, exclude: Any = None, using: str = DEFAULT_DB_ALIAS) -> None:
        """As Django's.

        Raises:
            ValidationError: for the field.
        """
        try:
            super().validate(model, instance, exclude=exclude, using=using)  # type: ignore[misc]
        except ValidationError as error:
            raise ValidationError({self.field: error.error_list}) from None

    @property
    def message(self) -> str:
        """What is said when it does not hold."""
        return str(self.get_violation_error_message())  # type: ignore[attr-defined]

    def clone(self) -> Any:
        """Return a copy."""
        _, _, kwargs = self.deconstruct()  # type: ignore[attr-defined]
        return type(self)(field=self.field, **kwargs)


class FieldUniqueConstraint(_WithField, models.UniqueConstraint):
    """No two rows hold the same."""

    def deconstruct(self) -> Any:
        _, args, kwargs = super().deconstruct()
        return "django.db.models.UniqueConstraint", args, kwargs


class FieldCheckConstraint(_WithField, models.CheckConstraint):
    """Each row holds to a condition."""

    def deconstruct(self) -> Any:
        _, args, kwargs = super().deconstruct()
        return "django.db.models.CheckConstraint", args, kwargs
