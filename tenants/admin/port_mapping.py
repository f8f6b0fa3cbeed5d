"""Port mappings on the backend's page, each with its host routes."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.admin.base import RegistryTabularInline
from tenants.admin.forms import RegistryForm
from tenants.admin.host_route import HostRouteInline
from tenants.models import PortMapping


class PortMappingForm(RegistryForm):
    """A mapping; one whose host routes are filled in is not an empty one."""

    def has_changed(self) -> bool:
        nested = getattr(self, "nested_formsets", ())
        return bool(super().has_changed() or any(each.formset.has_changed() for each in nested))


class PortMappingInline(RegistryTabularInline):
    """Where the streams of public ports go."""

    model = PortMapping
    form = PortMappingForm
    extra_when_new = 1
    fields = ["transport", "public_port", "default_target"]
    inlines = (HostRouteInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("host_routes")
