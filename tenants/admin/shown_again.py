"""A page that is shown again because something on it is wrong: it tells what the database holds, not what was typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, Model

from tenants.admin.secrets import SecretField, SecretJSONField
from tenants.changes.querysets import chunks

AGAIN: Final = "Nothing was saved. Enter this again: a page never holds a secret, not even the one that was just typed."


def forms_of(context: dict[str, Any]) -> list[Any]:
    """Return the form of a page and those of its inlines, the nested ones too."""
    return [context["adminform"].form, *_below(context["inline_admin_formsets"])]


def _below(formsets: Sequence[Any]) -> Iterator[Any]:
    for each in formsets:
        for form in each.formset.forms:
            yield form
            yield from _below(getattr(form, "nested_formsets", ()))


def show_stored(forms: Sequence[Any]) -> None:
    """Put into the rows of bound forms what is stored: read-only fields show them, and checks have changed them."""
    changed: dict[type[Model], list[Any]] = {}
    for form in forms:
        if form.is_bound and form.has_changed():
            changed.setdefault(form._meta.model, []).append(form.instance)
    for model, instances in changed.items():
        stored: dict[Any, Model] = {}
        for keys in chunks(row.pk for row in instances if row.pk is not None):
            stored |= {row.pk: row for row in model._base_manager.filter(pk__in=keys)}
        for instance in instances:
            _put_back(instance, stored.get(instance.pk) or model())


def _put_back(instance: Model, stored: Model) -> None:
    new = stored.pk is None
    for field in instance._meta.concrete_fields:
        if new and isinstance(field, ForeignKey):
            continue  # what it is below
        if field.attname in stored.__dict__:
            instance.__dict__[field.attname] = stored.__dict__[field.attname]
        related = instance._state.fields_cache.get(field.name)
        if isinstance(field, ForeignKey) and related is not None and related.pk != getattr(instance, field.attname):
            del instance._state.fields_cache[field.name]


def ask_again(forms: Sequence[Any]) -> None:
    """Say at each write-only field that was filled in that it is to be entered again."""
    for form in forms:
        if not form.is_bound:
            continue
        for name, field in form.fields.items():
            if isinstance(field, SecretField | SecretJSONField) and form[name].data not in (None, ""):
                field.widget.attrs["placeholder"] = "enter it again"
                form.add_error(name, ValidationError(AGAIN, code="again"))
