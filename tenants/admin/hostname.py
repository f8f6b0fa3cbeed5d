"""Hostnames and the backends that serve them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.views import ChangeList

from relay.errors import InvalidValue
from tenants.admin.backend_hostname import BackendOfHostnameInline, served_by
from tenants.admin.base import RegistryAdmin, operator_only
from tenants.admin.diagnostics import show_diagnostics
from tenants.admin.filters import ServedFilter, TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.models import Backend, Hostname
from tenants.rules import ownership
from tenants.services.access import permissions
from tenants.validators import normal_hostname

SHOWN_BACKENDS = 3  # in the list


class HostnameForm(RegistryForm):
    """A name that the tenant may have."""

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        tenant = cleaned.get("tenant") or (self.instance.tenant if self.instance.tenant_id is not None else None)
        if tenant is not None and "name" in self.changed_data and cleaned.get("name"):
            try:
                name = normal_hostname(cleaned["name"])
            except InvalidValue as error:
                self.add_error("name", str(error))
                return cleaned
            if permissions.refused_hostnames(self.user, tenant.pk, [name]):
                self.add_error("name", ownership.NO_DOMAIN)
        return cleaned

    def check_user(self) -> None:
        Hostname.check_rows([self.instance], self.instance._state.db or DEFAULT_DB_ALIAS)


class HostnameList(ChangeList):
    """Paginator that reads the backends of the page's hostnames at once."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).prefetch_related(served_by())


class HostnameAdmin(RegistryAdmin):
    """A hostname: whose it is, and who serves it."""

    form = HostnameForm
    list_display = ("name", "tenant_slug", "backends_shown")
    list_filter = (TenantFilter, ServedFilter)
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug", "backend_links__backend__name")
    search_help_text = "Hostname, tenant or backend"
    fields = ("tenant", "name")
    inlines = (BackendOfHostnameInline,)

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        # Which backends there are to choose from depends on the tenant.
        return self.inlines if obj is not None and obj.pk is not None else ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return HostnameList

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        show_diagnostics(self, request, *Backend.objects.filter(hostname_links__hostname=obj))
        return super().response_change(request, obj)

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, hostname: Hostname) -> str:
        """Name the tenant."""
        return hostname.tenant.slug

    @admin.display(description="Served by")
    def backends_shown(self, hostname: Hostname) -> str:
        """Name the backends that serve it."""
        names = [link.backend.name for link in hostname.backend_links.all()]
        more = f" +{len(names) - SHOWN_BACKENDS}" if len(names) > SHOWN_BACKENDS else ""
        return ", ".join(names[:SHOWN_BACKENDS]) + more
