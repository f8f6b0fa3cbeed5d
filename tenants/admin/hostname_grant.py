"""Grants: names that a tenant lets others have."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest

from tenants.admin.base import RegistryAdmin, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.models import HostnameGrant


class HostnameGrantForm(RegistryForm):
    """Form of a grant: name and tenant are written in full, as there is nothing to choose from."""

    def check_user(self) -> None:
        HostnameGrant.check_rows([self.instance], self.instance._state.db or DEFAULT_DB_ALIAS)


class HostnameGrantAdmin(RegistryAdmin):
    """A name that another tenant may have. Deleting it lets that tenant add no more; what it has stays."""

    form = HostnameGrantForm
    list_display = ("name", "tenant_slug", "grantee_slug")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug", "grantee_slug")
    search_help_text = "Name or tenant"
    fields = ("tenant", "name", "grantee_slug")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse to filter by the tenant that a slug was found to be: that would tell whether there is one."""
        return lookup.partition("__")[0] not in ("grantee", "grantee_id") and super().lookup_allowed(
            lookup, value, request
        )

    @admin.display(description="From", ordering="tenant__slug")
    def tenant_slug(self, grant: HostnameGrant) -> str:
        """Name the tenant that grants it."""
        return grant.tenant.slug
