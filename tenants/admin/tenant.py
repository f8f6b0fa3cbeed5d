"""Tenants: operators edit them, members look."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Field, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import path
from unfold.decorators import display

from tenants.admin import target_policy
from tenants.admin.base import RegistryAdmin
from tenants.admin.diagnostics import show_member_diagnostics
from tenants.admin.membership import MembershipOfTenantInline
from tenants.admin.usage import usage_view
from tenants.models import Backend, Hostname, Membership, Tenant
from tenants.rules import ownership
from tenants.rules.targets import tenant_policy

SHOWN_GRANTS = 50


class TenantAdmin(RegistryAdmin):
    """A tenant and its members."""

    list_display = ("slug", "name", "enabled_label", "backend_count", "hostname_count")
    list_filter = ("enabled",)
    search_fields = ("slug", "name")
    search_help_text = "Slug or name"
    actions = ("enable", "disable")
    fieldsets = (
        (None, {"fields": ["slug", "name", "enabled"]}),
        (
            "Limits",
            {
                "fields": [("max_streams", "streams_per_second"), ("upload_rate", "download_rate")],
                "classes": ["collapse"],
                "description": "Of the streams of all its backends together, in each relay process that serves them.",
            },
        ),
        target_policy.fieldset("Its targets are dialled from the relay's machine; what is new is bounded."),
        (
            "How much it may have",
            {"fields": [("max_backends", "max_hostnames"), "public_ports"], "classes": ["collapse"]},
        ),
        (
            "Names that others let it have",
            {"fields": ["granted_names"], "description": "It may add these, and all names under them."},
        ),
    )
    inlines = (MembershipOfTenantInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_readonly_fields(request, obj), "granted_names"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        def number(model: Any) -> Any:
            rows = model.objects.for_user(request.user).filter(tenant=OuterRef("pk")).order_by().values("tenant")
            return Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n"), output_field=IntegerField()), 0)

        rows = super().get_queryset(request)
        return rows.annotate(backend_number=number(Backend), hostname_number=number(Hostname))

    def get_urls(self) -> list[Any]:
        usage = path("usage/", self.admin_site.admin_view(usage_view), name="tenants_usage")
        return [usage, *super().get_urls()]

    @display(description="State", ordering="enabled", label={"on": "success", "off": "danger"})
    def enabled_label(self, tenant: Tenant) -> str:
        """Return whether its backends are served."""
        return "on" if tenant.enabled else "off"

    @admin.display(description="Backends")
    def backend_count(self, tenant: Any) -> int:
        """Count its backends."""
        number: int = tenant.backend_number
        return number

    @admin.display(description="Hostnames")
    def hostname_count(self, tenant: Any) -> int:
        """Count its hostnames."""
        number: int = tenant.hostname_number
        return number

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_dbfield(db_field, request, **kwargs | target_policy.widget_for(db_field))

    @admin.display(description="Granted")
    def granted_names(self, tenant: Tenant) -> str:
        """Name what other tenants grant it; which ones those are is not told."""
        names = ownership.names_granted_to([tenant.pk], SHOWN_GRANTS + 1) if tenant.pk is not None else []
        more = ["and more"] if len(names) > SHOWN_GRANTS else []
        return ", ".join([*names[:SHOWN_GRANTS], *more]) or "none"

    # -- after a save

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        target_policy.warn_of_refused(self, request, form, tenant_policy(obj), obj.backends)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        show_member_diagnostics(self, request, Membership.objects.filter(tenant=obj))
        return super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        show_member_diagnostics(self, request, Membership.objects.filter(tenant=obj))
        return super().response_change(request, obj)
