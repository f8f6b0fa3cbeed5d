"""The version that a change page was opened with: what others changed meanwhile is never overwritten unseen."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib.admin.utils import unquote
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.http import HttpResponse, QueryDict
from django.utils.html import format_html, format_html_join

from tenants.admin import shown_again
from tenants.fields import EncryptedTextField
from tenants.services.audit import since
from tenants.services.audit.presentation import in_words
from tenants.services.audit.revert import recorded_value

OPENED: Final = "_opened"
"""The hidden input of a change page: the version of its row when it was opened."""

_UNKNOWN: Final = "This page does not say when it was opened, so what changed since is not known. Nothing was saved."
_CHANGED: Final = (
    "Nothing was saved: this was changed since the page was opened. Fields that you left alone now show what is "
    "stored, the others what you entered. Look through them, and save again to put that in place."
)


class ChecksWhatChanged:
    """The part of an admin class that saves nothing over what others changed since the page was opened.

    The page is shown again: it says who changed what, takes that over where the user has changed nothing, and keeps
    what the user entered. A second save is a deliberate one.
    """

    change_form_before_template = "tenants/admin/opened.html"

    def changeform_view(
        self: Any, request: Any, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        request.opened, request.changed_since = "", None
        row = None if object_id is None else self.get_object(request, unquote(object_id))
        if row is not None:
            below = [inline.model for inline in self.get_inline_instances(request, row)]
            request.opened = since.version_of(row, below)  # before the rows
            if request.method == "POST":
                request.changed_since = _changed_since(request, row, below)
        extra_context = {**(extra_context or {}), "opened": request.opened}
        answer: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)  # type: ignore[misc]
        return answer

    def get_form(self, request: Any, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        entries = getattr(request, "changed_since", None)
        if entries is None:
            return form
        said = _UNKNOWN
        if entries:
            lines = format_html_join("", "<li>{}</li>", ((line,) for line in since.in_words(entries, request.user)))
            said = format_html('{}<ul class="registry-changes">{}</ul>', _CHANGED, lines)
        return type(form)(form.__name__, (_Refused, form), {"refused_because": said, "__module__": form.__module__})

    def render_change_form(self, request: Any, context: dict[str, Any], *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST":
            found = shown_again.forms_of(context)
            shown_again.show_stored(found)
            if getattr(request, "changed_since", None):
                take_over(found, request.changed_since)
            shown_again.ask_again(found)
            if context.get("original") is not None:
                context["subtitle"] = str(context["original"])
        answer: HttpResponse = super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]
        return answer


def _changed_since(request: Any, row: models.Model, below: list[Any]) -> list[Any] | None:
    """Return the changes since the page was opened; an empty list where that is not known, None for none."""
    opened = request.POST.get(OPENED)
    if opened is None:  # a program that posts what it wants to have, without a page that it has looked at
        return None
    if not (opened.isascii() and opened.isdigit() and len(opened) < 19):
        return []
    return since.of_row(row, int(opened), below) or None if int(opened) < request.opened else None


class _Refused:
    """The part of a form that is not to be saved."""

    refused_because: str

    def clean(self: Any) -> Any:
        cleaned = super().clean()  # type: ignore[misc]
        self.add_error(None, ValidationError(self.refused_because, code="changed"))
        return cleaned


def take_over(found: list[Any], entries: list[Any]) -> None:
    """Put what others changed into the fields that the user left alone; say it at those that both have changed."""
    changes = since.by_field(entries)
    data: QueryDict | None = None
    for form in found:
        fields = changes.get((form._meta.model._meta.label_lower, str(form.instance.pk)), {})
        if not form.is_bound or not fields:
            continue
        if data is None:
            data = QueryDict(mutable=True, encoding=form.data.encoding)
            for name, values in form.data.lists():
                data.setlist(name, values)
        for name, change in fields.items():
            _take_over(form, name, change, data)
    if data is not None:
        for form in found:
            form.data = data


def _take_over(form: Any, name: str, change: since.FieldChange, data: QueryDict) -> None:
    try:
        column: Any = form._meta.model._meta.get_field(name)
    except FieldDoesNotExist:
        return
    if name not in form.fields or form.fields[name].disabled or isinstance(column, EncryptedTextField):
        return
    field, entered = form.fields[name], form[name].data
    try:
        before, after = (recorded_value(column, each) for each in (change.before, change.after))
    except ValidationError:
        return  # the column was another one then
    if not field.has_changed(before, entered):
        put(data, form[name], after)
    elif field.has_changed(after, entered):
        now = in_words(change.after, dict(getattr(column, "flatchoices", ()))) or "nothing"
        form.add_error(name, f"{change.last.actor_name or 'Somebody'} made this {now}; save again to replace it.")


def put(data: QueryDict, bound: forms.BoundField, value: Any) -> None:
    """Put a value into posted data as the field's widget would post it."""
    name: str = bound.html_name
    widget: Any = bound.field.widget
    widget = getattr(widget, "widget", widget)
    if isinstance(widget, forms.MultiWidget):
        several: Any = widget
        for suffix, each, part in zip(several.widgets_names, several.widgets, several.decompress(value), strict=True):
            data[f"{name}{suffix}"] = each.format_value(part) or ""
    elif isinstance(widget, forms.CheckboxInput):
        data.setlist(name, ["on"] if value else [])
        if not value:
            del data[name]
    else:
        found = widget.format_value(bound.field.prepare_value(value))
        data.setlist(name, found if isinstance(found, list | tuple) else ["" if found is None else str(found)])
