"""Port mappings: on the backend's page, each with its host routes; how its streams are carried on a page of its own."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminTextareaWidget

from relay.config.port_options import PortOptions
from tenants.admin.base import RegistryAdmin, RegistryTabularInline
from tenants.admin.forms import RegistryForm
from tenants.admin.host_route import HostRouteInline
from tenants.models import OPTION_FIELDS, PortMapping, fields_of

_DEFAULTS = fields_of(PortOptions())
_LABELS = {field.name: str(field.verbose_name) for field in PortMapping._meta.fields}


class PortMappingForm(RegistryForm):
    """A mapping; one whose host routes are filled in is not an empty one."""

    def has_changed(self) -> bool:
        nested = getattr(self, "nested_formsets", ())
        return bool(super().has_changed() or any(each.formset.has_changed() for each in nested))

    def _get_validation_exclusions(self) -> set[str]:
        # Each of these is on one of the two pages only, and a constraint is about both.
        return super()._get_validation_exclusions() - {"transport", "proxy_protocol"}


class PortMappingInline(RegistryTabularInline):
    """The targets of public ports."""

    model = PortMapping
    form = PortMappingForm
    extra_when_new = 1
    fields = ["transport", "public_port", "default_target", "settings"]
    readonly_fields = ("settings",)
    inlines = (HostRouteInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("host_routes")

    @admin.display(description="Settings")
    def settings(self, mapping: PortMapping) -> str:
        """Name what is not at its default, and lead to the page that holds all of it."""
        if mapping.pk is None:
            return "after saving"
        changed = [_LABELS[name] for name in OPTION_FIELDS if getattr(mapping, name) != _DEFAULTS[name]]
        address = reverse("admin:tenants_portmapping_change", args=[mapping.pk])
        return format_html('<a href="{}" class="underline">{}</a>', address, ", ".join(changed) or "defaults")


class PortMappingAdmin(RegistryAdmin):
    """Options for the streams of one public port. The backend's page says where they go, and leads here."""

    form = PortMappingForm
    list_display = ("public_port", "transport", "backend", "default_target")
    list_select_related = ("backend__tenant",)
    sortable_by = ()
    search_fields = ("backend__name", "default_target")
    readonly_fields = ("backend", "transport", "public_port", "default_target")
    fieldsets = (
        (None, {"fields": [("backend", "transport"), ("public_port", "default_target")]}),
        ("Targets", {"fields": [("target_order", "dial_timeout"), "proxy_protocol"]}),
        (
            "Health checks of targets",
            {
                "fields": [
                    ("target_health_interval", "target_health_timeout"),
                    ("target_health_up_after", "target_health_down_after"),
                ]
            },
        ),
        ("Which users are let in", {"fields": ["access_allow", "access_deny", "access_mode"]}),
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Keep it out of the index: it is a part of the backend."""
        return {}

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in ("access_allow", "access_deny"):
            kwargs["widget"] = UnfoldAdminTextareaWidget(attrs={"rows": 3})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:tenants_backend_change", args=[obj.backend_id]))
