"""The base of the registry's admin classes: everything through the gate, each change in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import NestedObjects
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import IntegrityError, router
from django.db.models import Field, ForeignKey, JSONField, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect, QueryDict
from unfold.admin import ModelAdmin, StackedInline, TabularInline

from tenants.admin import deletion, search, secrets
from tenants.admin.filters import RefusesNul, is_key
from tenants.admin.forms import NestedFormSet, RegistryForm, RegistryFormSet
from tenants.admin.gate import MembershipGate, choices_for, sight
from tenants.admin.history import RecordedHistory
from tenants.admin.opened import ChecksWhatChanged
from tenants.admin.paging import KeysFirstPaginator
from tenants.changes import generations
from tenants.changes.querysets import chunks
from tenants.fields import EncryptedTextField
from tenants.models import Tenant

SHOWN_OBJECTS = 100  # named on a page that asks whether to delete them
MOST_ROWS = 5_000  # of one kind on one page; settings.DATA_UPLOAD_MAX_NUMBER_FIELDS has to fit
SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class Posted(QueryDict):
    """What was posted, one for all formsets of a page.

    Django copies it for each of them, and each port mapping has one of its own: that grew with the square of the rows,
    under the lock that all who write wait for. Nothing changes it; where rows are saved as new ones, which no page here
    offers, Django unlocks it for a moment.
    """

    @classmethod
    def of(cls, posted: QueryDict) -> Self:
        """Return the same, to be shared."""
        found = cls(mutable=True, encoding=posted.encoding)
        for name, values in posted.lists():
            found.setlist(name, values)
        found._mutable = False
        return found

    def copy(self) -> Self:
        return self


def claims_more_rows_than_it_has(request: HttpRequest) -> bool:
    """Say whether a posted form announces more inline rows than it has fields.

    Every announced row costs time, under the lock that all who write wait for; each real one posts a field at least.
    A number that no page of ours writes counts as too many: form fields read 0000010000 and full-width digits too.
    """
    if request.method in SAFE_METHODS:
        return False
    totals = [str(value) for name, value in request.POST.items() if name.endswith("-TOTAL_FORMS")]
    if not all(total.isascii() and total.isdigit() and len(total) < 10 for total in totals):
        return True
    return sum(map(int, totals)) > len(request.POST)


def chooses_what_is_no_row(request: HttpRequest) -> bool:
    """Say whether an action is asked for on something that can be no row's key, which Django would fail at."""
    chosen = () if request.method in SAFE_METHODS else request.POST.getlist(ACTION_CHECKBOX_NAME)
    return not all(map(is_key, chosen))


class Gated(MembershipGate):
    """An admin class or inline whose forms are the registry's, behind the gate."""

    form = RegistryForm
    formfield_overrides = secrets.OVERRIDES

    def formfield_for_foreignkey(self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = choices_for(request, db_field.related_model, self.model)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        # Pages of related rows are a click away in the sidebar; beside every field they only distract.
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        for switch in ("can_add_related", "can_change_related", "can_delete_related", "can_view_related"):
            if hasattr(getattr(field, "widget", None), switch):
                setattr(field.widget, switch, False)
        if isinstance(db_field, JSONField) and field is not None:
            field.widget.attrs["rows"] = 2
        return field

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        return fieldsets if self.has_change_permission(request, obj) else without_secrets(self.model, fieldsets)


def without_secrets(model: type[Model], fieldsets: Any) -> list[Any]:
    """Return the fieldsets without encrypted fields: a read-only page would show their plaintext."""
    hidden = {field.name for field in model._meta.fields if isinstance(field, EncryptedTextField)}

    def kept(names: Any) -> list[Any]:
        shown = [kept(name) if isinstance(name, list | tuple) else name for name in names if name not in hidden]
        return [name for name in shown if name]

    return [(title, {**options, "fields": kept(options["fields"])}) for title, options in fieldsets]


class RegistryAdmin(RecordedHistory, RefusesNul, Gated, ChecksWhatChanged, ModelAdmin):
    """A page for one kind of row."""

    list_filter_submit = True
    list_per_page = 50
    paginator = KeysFirstPaginator
    show_full_result_count = False  # a second count of a large table, which is of no use
    warn_unsaved_form = True
    compressed_fields = True

    class Media:
        css = {"all": ["tenants/admin.css"]}
        js = ["tenants/inlines.js"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.user = request.user
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = list(super().get_readonly_fields(request, obj))
        moves = obj is not None and obj.pk is not None and any(f.name == "tenant" for f in self.model._meta.fields)
        return [*fields, "tenant"] if moves else fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial = super().get_changeform_initial_data(request)
        field = next((f for f in self.model._meta.fields if f.name == "tenant"), None)
        if field is not None and "tenant" not in initial:
            tenants = list(choices_for(request, Tenant, self.model)[:2])
            if len(tenants) == 1:
                initial["tenant"] = tenants[0].pk
        return initial

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Find what is searched for, quickly (`tenants.admin.search`); nothing is doubled."""
        fields = self.get_search_fields(request)
        if not search_term.strip() or not fields:
            return queryset, False
        rows, more = search.found(queryset, fields, search_term)
        if more and not request.path.endswith("/autocomplete/"):
            text = f"The first {search.MOST} that were found are listed. Write more of the name to find others."
            self.message_user(request, text, messages.INFO)
        return rows, False

    # -- what an address may ask for

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse to filter by what points to the row: ``?backends=7`` would tell which nodes another tenant uses."""
        if lookup not in {getattr(each, "parameter_name", None) for each in self.list_filter}:
            try:
                if not self.model._meta.get_field(lookup.partition("__")[0]).concrete:
                    return False
            except FieldDoesNotExist:
                pass  # a parameter that means nothing
        return super().lookup_allowed(lookup, value, request)

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Pop-ups give primary keys; Django's own check raises for some names."""
        return to_field == self.model._meta.pk.name

    # -- one transaction, one number for each changed backend, one announcement

    @contextmanager
    def writing(self, request: HttpRequest) -> Iterator[None]:
        """Hold the generation's lock from the check of what was entered until it is stored."""
        if request.method in SAFE_METHODS:
            yield
        else:
            with generations.batch(router.db_for_write(self.model)):
                yield

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if claims_more_rows_than_it_has(request):
            return HttpResponseBadRequest(
                "The form announces more rows than it holds. Load the page again, and repeat it."
            )
        if request.method == "POST":
            request.POST = Posted.of(request.POST)  # type: ignore[assignment]
        try:
            with self.writing(request):
                return super().changeform_view(request, object_id, form_url, extra_context)
        except (IntegrityError, ValidationError) as error:
            # What is entered is checked under the lock, so this is a rule that the checks do not know.
            said = " ".join(error.messages) if isinstance(error, ValidationError) else "The database refused it."
            self.message_user(request, f"Nothing was saved. {said}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if chooses_what_is_no_row(request):
            return HttpResponseBadRequest(
                "What is chosen is not a row of this list. Load the page again, and repeat it."
            )
        with self.writing(request):
            return super().changelist_view(request, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        with self.writing(request):
            return super().delete_view(request, object_id, extra_context)

    # -- nested inlines

    def _get_nested_formset(
        self, request: HttpRequest, obj: Any, form: Any, parent_inline: Any, inline_class: Any, change: bool
    ) -> Any:
        nested = super()._get_nested_formset(request, obj, form, parent_inline, inline_class, change)
        if nested is not None:
            nested.formset.parent_form = form
            nested.formset.form.user = request.user
        return nested

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> list[Any]:
        found = list(formsets or ())
        for formset in found[:]:
            for row in formset.forms:
                nested = [each.formset for each in getattr(row, "nested_formsets", ())]
                # A formset that was not saved, because its row goes, has no lists of changes.
                found += [each for each in nested if hasattr(each, "new_objects")]
        message = super().construct_change_message(request, form, found, add)
        return [part for part in message if part.get("changed") is None or part["changed"].get("fields")]

    # -- deleting

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[Any], dict[str, int], set[str], list]:
        """Return the objects themselves, and of what goes with them the numbers: it can be thousands."""
        rows = list(objs)
        using = router.db_for_write(self.model)
        if operator_only(request):  # who may delete all of it, or none of a kind
            counts, protected = deletion.numbers(rows, using)
            found_by_model: dict[type[Model], Any] = {model: [None] for model in counts}
        else:
            collector = NestedObjects(using=using, origin=rows)
            collector.collect(rows)
            found_by_model, protected = collector.model_objs, list(collector.protected)  # type: ignore[assignment]
            counts = {model: len(found) for model, found in found_by_model.items()}
        lacking = {
            str(model._meta.verbose_name)
            for model, found in found_by_model.items()
            if self.admin_site.is_registered(model)
            for row in found
            if not self.admin_site.get_model_admin(model).has_delete_permission(request, row)
        }
        named = [str(row) for row in rows[:SHOWN_OBJECTS]]
        if len(rows) > SHOWN_OBJECTS:
            named.append(f"and {len(rows) - SHOWN_OBJECTS} more")
        words = {str(model._meta.verbose_name_plural): number for model, number in counts.items()}
        return named, words, lacking, [str(row) for row in protected]

    # -- switching on and off

    @admin.action(description="Enable selected %(verbose_name_plural)s", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch the chosen rows on."""
        self.switch(request, queryset, enabled=True)

    @admin.action(description="Disable selected %(verbose_name_plural)s", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch the chosen rows off."""
        self.switch(request, queryset, enabled=False)

    def switch(self, request: HttpRequest, queryset: QuerySet[Any], *, enabled: bool, **fields: Any) -> None:
        """Switch the chosen rows on or off, and set other fields with it, where the user may."""
        values = {"enabled": enabled, **fields}
        chosen = list(queryset.prefetch_related(None))
        mine = [row for row in chosen if self.has_change_permission(request, row)]
        changed = [row for row in mine if any(getattr(row, name) != value for name, value in values.items())]
        for keys in chunks(row.pk for row in changed):
            self.model.objects.filter(pk__in=keys).update(**values)
        word = "enabled" if enabled else "disabled"
        name = self.opts.verbose_name if len(changed) == 1 else self.opts.verbose_name_plural
        self.message_user(request, f"{len(changed)} {name} {word}.", messages.SUCCESS)
        if len(mine) < len(chosen):
            self.message_user(
                request, f"{len(chosen) - len(mine)} not touched: you may only look at them.", messages.WARNING
            )


class GatedInline(Gated):
    """Rows below an object's page: users who may change the object's tenant may change them."""

    formset = RegistryFormSet
    max_num = MOST_ROWS
    extra = 0
    extra_when_new = 0  # empty rows that the page of a new object begins with
    inlines: tuple[type[Any], ...] = ()

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        return self.extra_when_new if obj is None or obj.pk is None else self.extra

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        kwargs.setdefault("absolute_max", 2 * MOST_ROWS)
        formset = super().get_formset(request, obj, **kwargs)  # type: ignore[misc]
        formset.form.user = request.user
        return formset


class RegistryTabularInline(GatedInline, TabularInline):
    """One line a row."""

    hide_title = True


class RegistryStackedInline(GatedInline, StackedInline):
    """One block a row."""


class NestedTabularInline(RegistryTabularInline):
    """Lines below a row of an inline."""

    formset = NestedFormSet


def operator_only(request: HttpRequest) -> bool:
    """Tell whether an operator asks."""
    return sight(request).operator


def all_seeing(request: HttpRequest) -> bool:
    """Tell whether an operator or an auditor asks."""
    return sight(request).sees_all
