"""Nexus nodes, which all tenants share: members look, operators edit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from unfold.decorators import display

from tenants.admin.base import RegistryAdmin, all_seeing
from tenants.models import BackendNode, NexusNode


class NodeAdmin(RegistryAdmin):
    """A node's address and the certificates that its own must chain to."""

    list_display = ("name", "address", "enabled_label", "backend_count")
    list_filter = ("enabled",)
    search_fields = ("name", "address")
    search_help_text = "Name or address"
    actions = ("enable", "disable")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        # By what a node is known to the verifier is the operators' business.
        known_by = ["client_certificates"] if all_seeing(request) else []
        return ["name", "address", "enabled", "ca_pem", *known_by]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        mine = BackendNode.objects.for_user(request.user).filter(node=OuterRef("pk")).order_by().values("node")
        number = Subquery(mine.annotate(number=Count("pk")).values("number"), output_field=IntegerField())
        return super().get_queryset(request).annotate(used_by=Coalesce(number, 0))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "ca_pem" and isinstance(field, forms.CharField):
            field.widget.attrs.update({"rows": 6, "class": f"{field.widget.attrs.get('class', '')} font-mono"})
        return field

    @display(description="State", ordering="enabled", label={"on": "success", "off": "danger"})
    def enabled_label(self, node: NexusNode) -> str:
        """Return whether sessions are opened to it."""
        return "on" if node.enabled else "off"

    @admin.display(description="Backends", ordering="used_by")
    def backend_count(self, node: Any) -> int:
        """Count the backends, of those that the user may see, that open sessions to it."""
        number: int = node.used_by
        return number
