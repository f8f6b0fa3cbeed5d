"""The nodes of a backend, on its page."""

from __future__ import annotations

from typing import Any

from django.db.models import Field, Max, QuerySet
from django.http import HttpRequest

from tenants.admin.base import RegistryTabularInline, operator_only
from tenants.admin.forms import RegistryFormSet
from tenants.models import Backend, BackendNode


class AppendingFormSet(RegistryFormSet):
    """Formset that puts new rows behind those that their backend has."""

    def save_new(self, form: Any, commit: bool = True) -> Any:
        backend = self.instance if isinstance(self.instance, Backend) else form.instance.backend
        last = self.model.objects.filter(backend=backend).aggregate(last=Max("position"))["last"]
        form.instance.position = 0 if last is None else last + 1
        return super().save_new(form, commit)


class BackendNodeInline(RegistryTabularInline):
    """The nodes that a backend opens its sessions to."""

    model = BackendNode
    formset = AppendingFormSet
    extra_when_new = 1
    fields = ["node"]
    verbose_name = "node"
    verbose_name_plural = "nodes"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("node")

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "node" and hasattr(getattr(field, "widget", None), "can_add_related"):
            field.widget.can_add_related = operator_only(request)
        return field
