"""Host routes below their port mapping on the backend's page."""

from __future__ import annotations

from typing import Any

from tenants.admin.base import NestedTabularInline
from tenants.admin.forms import NestedFormSet
from tenants.models import HostRoute


class HostRouteFormSet(NestedFormSet):
    """The routes of one mapping, which came with the mappings in one query."""

    def get_queryset(self) -> Any:
        if not hasattr(self, "_queryset"):
            self._queryset = list(self.instance.host_routes.all()) if self.instance.pk is not None else []
        return self._queryset


class HostRouteInline(NestedTabularInline):
    """The targets of single hostnames."""

    model = HostRoute
    formset = HostRouteFormSet
    fields = ["pattern", "target"]
