"""Forms and formsets of the registry: every error at its field, rows of the page's object only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AutocompleteMixin
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.forms.formsets import INITIAL_FORM_COUNT, TOTAL_FORM_COUNT, ManagementForm
from django.forms.models import ModelChoiceField
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from unfold.forms import PaginationInlineFormSet

from tenants.changes.visibility import is_operator
from tenants.constraints import FieldUniqueConstraint
from tenants.fields import UndecryptableValue
from tenants.rules.targets import OUTSIDE_POLICY, WHERE

MOST_CHANGED = 500
"""Rows of one kind that are written in one save: each costs milliseconds under the lock that all who write wait for."""

GONE = "This row is not there any more: load the page again."


class RegistryForm(forms.ModelForm):
    """Checks the row by the model's own validation, and shows each error at its field.

    Class attributes:
        user: who fills the form in; set by the admin class.
        entered_as: the form's field for a field of the model that is not entered itself.
    """

    user: ClassVar[Any] = None
    entered_as: ClassVar[dict[str, str]] = {}

    def check_user(self) -> None:
        """Refuse what this user may not do.

        Raises:
            ValidationError: by field.
        """

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        key = self._meta.model._meta.pk.name
        if key in self.errors:  # the field is hidden
            self.add_error(None, self.errors[key].as_data())
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        # The tenant is not edited after creation, yet names are unique in it.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        if "tenant" not in self.fields and getattr(self.instance, "tenant_id", None) is not None:
            excluded.discard("tenant")
        return excluded

    def _post_clean(self) -> None:
        if self.instance.pk is not None and not self.has_changed():
            return
        try:
            super()._post_clean()  # type: ignore[misc]
            if not self.errors:
                self.check_user()
        except UndecryptableValue as error:
            self._update_errors(ValidationError({"secret": str(error)}))
        except ValidationError as error:
            self._update_errors(error)

    def place_of(self, name: str) -> str | None:
        """Return the form's field where an error of a model's field is shown; None for above the form."""
        name = self.entered_as.get(name, name)
        return name if name in self.fields else None

    def way_out(self, refused: ValidationError) -> str:
        """Return why a target is refused; for those who may allow it, with the way to where they do."""
        said, owner = " ".join(refused.messages), self.instance
        for name in owner.tenant_lookup.split("__"):  # by the objects: on the page of a new backend none has a key
            owner = getattr(owner, name)
        if not is_operator(self.user):
            return said
        address = reverse("admin:tenants_tenant_change", args=[owner.pk])
        link = '{} You may: <a href="{}" class="underline">the tenant\'s page</a> has it under {}.'
        return format_html(link, said, address, WHERE)

    def _update_errors(self, errors: ValidationError) -> None:
        placed: dict[str, list[Any]] = {}
        found = errors.error_dict if hasattr(errors, "error_dict") else {NON_FIELD_ERRORS: errors.error_list}
        for name, items in found.items():
            for item in items:
                said = [self.way_out(item)] if item.code == OUTSIDE_POLICY else item.messages
                messages = [ValidationError(message, code=item.code) for message in said]
                placed.setdefault(self.place_of(name) or NON_FIELD_ERRORS, []).extend(messages)
        super()._update_errors(ValidationError(placed))  # type: ignore[misc]


class RowField(forms.Field):
    """The hidden key of an inline's row: one of this page's, or none; costs no query and tells nothing of others."""

    widget = forms.HiddenInput

    def __init__(self, rows: dict[Any, models.Model], key: models.Field[Any, Any], **kwargs: Any) -> None:
        super().__init__(required=False, error_messages={"required": GONE}, **kwargs)
        self.rows = rows
        self.key = key

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        try:
            return self.rows[self.key.to_python(value)]
        except (KeyError, ValidationError):
            raise ValidationError(GONE, code="gone") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False


class RegistryFormSet(PaginationInlineFormSet):
    """Rows below one object. Two rows with one key, and rows of another page, are errors at their field."""

    parent_form: Any = None  # of a nested formset: the form that it belongs to

    # -- which rows

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        key = self.model._meta.pk
        if key.name in form.fields and not isinstance(form.fields[key.name], RowField):
            row = form.instance.pk if index is not None and index < self.initial_form_count() else None
            form.fields[key.name] = RowField(self._rows_by_key, key, initial=row)
        for name, field in form.fields.items():
            widget = getattr(field, "widget", None)
            if isinstance(field, ModelChoiceField) and not isinstance(
                getattr(widget, "widget", widget), AutocompleteMixin
            ):
                field.choices = self._shared_choices(name, field)

    @cached_property
    def _rows_by_key(self) -> dict[Any, models.Model]:
        return {row.pk: row for row in self.get_queryset()}

    def _shared_choices(self, name: str, field: ModelChoiceField) -> list[Any]:
        """Return the choices of a field, read once for all rows."""
        known = self.__dict__.setdefault("_choices", {})
        if name not in known:
            choices: Any = field.choices
            known[name] = list(choices)
        return list(known[name])

    def _construct_form(self, i: int, **kwargs: Any) -> Any:
        form = super()._construct_form(i, **kwargs)
        setattr(form.instance, self.fk.name, self.instance)  # else every row would look for its parent
        return form

    # -- what the rows say

    def is_valid(self) -> bool:
        if self.parent_form is not None and self._parent_goes():
            return True
        valid = bool(super().is_valid())
        if self.is_bound:
            for form in self.forms:
                for nested in getattr(form, "nested_formsets", ()):
                    if not nested.formset.is_valid() and not self._should_delete_form(form):
                        valid = False
                        if not form.errors:
                            form.add_error(None, f"Mend its {nested.opts.verbose_name_plural} below.")
        return valid

    def changed_rows(self) -> int:
        """Count the rows that a save would write, those below them too."""
        below = (nested.formset for form in self.forms for nested in getattr(form, "nested_formsets", ()))
        own = sum(form.has_changed() for form in self.forms)
        return own + sum(formset.changed_rows() for formset in below)

    def _parent_goes(self) -> bool:
        form = self.parent_form
        return bool(form.is_bound and form.data.get(form.add_prefix("DELETE")))

    def validate_unique(self) -> None:
        """Leave it to `clean`, which says it at the field and in the constraint's words."""

    def clean(self) -> None:
        super().clean()
        if self.parent_form is None and (number := self.changed_rows()) > MOST_CHANGED:
            raise ValidationError(
                f"{number} rows would be changed: {MOST_CHANGED} at most in one save, since others wait for it. Save "
                "them in parts, or have an operator import them."
            )
        kept = [form for form in self.forms if hasattr(form, "cleaned_data") and not self._should_delete_form(form)]
        for constraint in self.model._meta.constraints:
            if isinstance(constraint, FieldUniqueConstraint):
                self._refuse_duplicates(constraint, kept)

    def _refuse_duplicates(self, constraint: FieldUniqueConstraint, kept: Iterable[Any]) -> None:
        names = [name for name in constraint.fields if name != self.fk.name]
        stored = {self.stored_key(form, names): form for form in self.initial_forms if form.instance.pk is not None}
        seen: set[tuple[Any, ...]] = set()
        for form in kept:
            key = self.entered_key(form, names)
            if key is None:
                continue
            if key in seen:
                self._refuse(form, constraint, constraint.message)
            elif form.instance.pk is not None and stored.get(key, form) is not form:
                self._refuse(form, constraint, "Another row holds this still: change or delete that, save, then this.")
            seen.add(key)

    @staticmethod
    def _refuse(form: Any, constraint: FieldUniqueConstraint, message: str) -> None:
        form.add_error(form.place_of(constraint.field), message)

    def stored_key(self, form: Any, names: list[str]) -> tuple[Any, ...]:
        """Return what must be unique as it is stored."""
        return tuple(form.initial.get(name) for name in names)

    def entered_key(self, form: Any, names: list[str]) -> tuple[Any, ...] | None:
        """Return what must be unique as it was entered; None where it is incomplete."""
        if any(form.cleaned_data.get(name) in (None, "") for name in names):
            return None
        return tuple(getattr(form.instance, self.model._meta.get_field(name).attname) for name in names)


class NestedFormSet(RegistryFormSet):
    """Rows below a row of an inline. Where the page sent nothing about them, nothing changes."""

    @cached_property
    def management_form(self) -> ManagementForm:
        if self.is_bound and f"{self.prefix}-{TOTAL_FORM_COUNT}" not in self.data:
            empty = {f"{self.prefix}-{TOTAL_FORM_COUNT}": 0, f"{self.prefix}-{INITIAL_FORM_COUNT}": 0}
            form = ManagementForm(empty, auto_id=self.auto_id, prefix=self.prefix, renderer=self.renderer)
            form.full_clean()
            return form
        return super().management_form
