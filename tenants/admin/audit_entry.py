"""The audit trail: operators and auditors read all of it, owners their tenants'; it is read-only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter
from unfold.contrib.filters.admin.text_filters import TextFilter

from tenants.admin.filters import RefusesNul
from tenants.admin.gate import sight
from tenants.admin.paging import MOST_COUNTED, BoundedChangeList, BoundedPaginator
from tenants.admin.search import bounded
from tenants.admin.streaming import download
from tenants.changes.actor import ORIGINS
from tenants.changes.audit_entry import CREATED, DELETED, UPDATED
from tenants.changes.record_rules import on_record
from tenants.changes.role import OWNERS
from tenants.models import AuditEntry, Tenant
from tenants.services.audit.presentation import FORMATS, export, model_of, shown_changes, summary
from tenants.services.audit.revert import CanNotRevert, revert, revertible_model

OTHER = "other"


class SlugFilter(TextFilter):
    """A tenant by its slug, also one that is gone."""

    title = "tenant (its slug)"
    parameter_name = "tenant"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        # By key where there is one: that is indexed, and finds what came before the slug was another.
        key = Tenant.objects.for_user(request.user).filter(slug=self.value()).values_list("pk", flat=True).first()
        return queryset.filter(tenant_slug=self.value()) if key is None else queryset.filter(tenant_key=key)


class ActorFilter(TextFilter):
    """An actor by name, also of a deleted user."""

    title = "who (user name)"
    parameter_name = "who"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        named = Q(actor_name=self.value())
        if sight(request).sees_all:  # others' entries are few, and which users there are is not for them
            users = get_user_model()._default_manager.filter(username=self.value())
            named = Q(actor_id__in=list(users.values_list("pk", flat=True))) | Q(actor__isnull=True) & named
        return queryset.filter(named)


class ActionFilter(DropdownFilter):
    """Filter by action."""

    title = "action"
    parameter_name = "did"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(CREATED, CREATED), (UPDATED, UPDATED), (DELETED, DELETED), (OTHER, "something else")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == OTHER:
            return queryset.exclude(action__in=(CREATED, UPDATED, DELETED))
        return queryset.filter(action=self.value()) if self.value() else queryset


class KindFilter(DropdownFilter):
    """Filter by kind of row."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return sorted(((model._meta.label_lower, noun_of(model)) for model in on_record()), key=lambda each: each[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(model=self.value()) if self.value() else queryset


class OriginFilter(DropdownFilter):
    """Filter by origin."""

    title = "through"
    parameter_name = "through"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(each, each) for each in ORIGINS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(origin=self.value()) if self.value() else queryset


def noun_of(model: Any) -> str:
    """Return the model's name for people."""
    return str(model._meta.verbose_name)


class AuditEntryAdmin(RefusesNul, ModelAdmin):
    """A list, a page for each entry, files, and a button that takes a change back."""

    change_list_template = "tenants/admin/audit_list.html"
    list_display = ("when", "actor_name", "origin", "tenant_slug", "action", "noun", "object_text")
    list_display_links = ("when",)
    list_filter = (
        SlugFilter,
        ActorFilter,
        ActionFilter,
        KindFilter,
        OriginFilter,
        ("instant", RangeDateTimeFilter),
    )
    list_filter_submit = True
    list_per_page = 50
    list_select_related = False
    search_fields = ("object_text", "actor_name", "address")
    search_help_text = f"What, who, or an address; {MOST_COUNTED} entries are listed at most"
    sortable_by = ()
    show_full_result_count = False
    paginator = BoundedPaginator
    actions = None

    # -- the gate

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return AuditEntry.objects.for_user(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        seen = sight(request)
        if seen.sees_all:
            return True
        return seen.may_anywhere(OWNERS) if obj is None else seen.may_in(obj.tenant_key, OWNERS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only filters: a question about what a field was before would tell what is not shown."""
        if lookup == "batch" or lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}:
            return True
        # A parameter that means nothing is for the list to say so.
        return lookup.partition("__")[0] not in {field.name for field in self.model._meta.get_fields()} | {"pk"}

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        return super().get_search_results(request, queryset, bounded(search_term))

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        return False

    # -- the list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return BoundedChangeList

    @admin.display(description="When")
    def when(self, entry: AuditEntry) -> str:
        """Return the instant, to the second."""
        return f"{entry.instant:%Y-%m-%d %H:%M:%S} UTC"

    @admin.display(description="Kind")
    def noun(self, entry: AuditEntry) -> str:
        """Name the kind of row."""
        model = model_of(entry)
        return entry.model if model is None else noun_of(model)

    def get_list_display(self, request: HttpRequest) -> Any:
        @admin.display(description="Changes")
        def changed(entry: AuditEntry) -> str:
            return summary(entry, request.user)

        return (*self.list_display, changed)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        query = request.GET.urlencode()
        tools = [
            {
                "title": f"Export {each.upper()}",
                "link": reverse("admin:tenants_auditentry_export", args=[each]) + (f"?{query}" if query else ""),
            }
            for each in FORMATS
        ]
        return super().changelist_view(request, {"export_tools": tools, **(extra_context or {})})

    # -- pages of its own

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("export/<str:file_format>/", view(self.export_view), name="tenants_auditentry_export"),
            path("<path:object_id>/revert/", view(self.revert_view), name="tenants_auditentry_revert"),
            *super().get_urls(),
        ]

    def export_view(self, request: HttpRequest, file_format: str) -> HttpResponse:
        """Send what the list would show, all pages of it, as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        address = reverse("admin:tenants_auditentry_changelist")
        if file_format not in FORMATS:
            return HttpResponseRedirect(address)
        try:
            entries = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{address}?e=1")
        texts = export(entries, file_format, request.user)
        answer: Any = download(request, texts, f"audit.{file_format}", FORMATS[file_format])
        return answer

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        entry: Any = None if object_id is None else self.get_object(request, unquote(object_id))
        if object_id is None or (entry is not None and not self.has_view_permission(request, entry)):
            raise PermissionDenied
        if entry is None:
            answer: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return answer
        return self._page(request, entry)

    def _page(self, request: HttpRequest, entry: AuditEntry) -> HttpResponse:
        seen = self.get_queryset(request).filter(batch=entry.batch).order_by()
        context = {
            **self.admin_site.each_context(request),
            "title": str(entry),
            "entry": entry,
            "noun": self.noun(entry),
            "changes": shown_changes(entry, request.user),
            "row_link": self._row_link(request, entry),
            "others": seen[:MOST_COUNTED].count() - 1,
            "batch_link": f"{reverse('admin:tenants_auditentry_changelist')}?batch={entry.batch}",
            "opts": self.opts,
            **self._revert_context(request, entry),
        }
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, "tenants/admin/audit_entry.html", context)

    def _row_link(self, request: HttpRequest, entry: AuditEntry) -> str:
        """Return the address of the row's page, or of the row that it hangs on; empty where neither has one."""
        root_label, _, root_key = entry.root.partition(" ")
        for label, key in ((entry.model, entry.object_id), (root_label, root_key)):
            for model, model_admin in self.admin_site._registry.items():
                if model._meta.label_lower != label or model is AuditEntry:
                    continue
                if model_admin.get_object(request, key) is not None:
                    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
        return ""

    # -- taking back

    def _revert_context(self, request: HttpRequest, entry: AuditEntry) -> dict[str, Any]:
        try:
            model = revertible_model(entry)
        except CanNotRevert as error:
            return {"revert_refused": str(error)}
        if not sight(request).may_in(entry.tenant_key, model.edit_roles):
            return {"revert_refused": f"You may not change a {noun_of(model)}, so you cannot revert this."}
        texts = {
            CREATED: f"Deletes the {noun_of(model)} again, with all rows below it.",
            UPDATED: "Gives these fields the values that they had before.",
            DELETED: f"Makes the {noun_of(model)} again, with what was deleted with it; without secrets.",
        }
        return {
            "revert_form": True,
            "revert_text": texts[entry.action],
            "revert_link": reverse("admin:tenants_auditentry_revert", args=[entry.pk]),
        }

    def revert_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a change back, and say what came of it."""
        entry: Any = self.get_object(request, unquote(object_id))
        if entry is None or not self.has_view_permission(request, entry):
            answer: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return answer
        address = reverse("admin:tenants_auditentry_change", args=[entry.pk])
        if request.method == "POST":
            try:
                result = revert(entry, request.user)
            except CanNotRevert as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, result.done, messages.SUCCESS)
                if result.left:
                    said = "; ".join(result.left[:10]) + ("; and more" if len(result.left) > 10 else "")
                    self.message_user(request, f"Not brought back: {said}.", messages.WARNING)
        return HttpResponseRedirect(address)
