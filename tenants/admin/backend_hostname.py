"""The hostnames of a backend on its page, and the backends of a hostname on its page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from relay.errors import InvalidValue
from tenants.admin.backend_node import AppendingFormSet
from tenants.admin.base import RegistryTabularInline
from tenants.admin.forms import RegistryForm
from tenants.models import Backend, BackendHostname, Hostname
from tenants.rules import limits, ownership
from tenants.services.access import permissions
from tenants.validators import normal_hostname

DATALIST = "hostnames-of-tenant"
OFFERED = 1_000  # hostnames that the page offers; others are typed in full


class HostnameLinkForm(RegistryForm):
    """Field for the name itself: one of the tenant's hostnames, or a new one, which then becomes the tenant's."""

    name = forms.CharField(
        label="hostname",
        max_length=255,
        widget=UnfoldAdminTextInputWidget(
            {"list": DATALIST, "autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
        help_text="Choose one of the tenant's or write a new one: app.example.com, or *.preview.example.com for any "
        "one label in front.",
    )

    entered_as = {"hostname": "name"}

    class Meta:
        model = BackendHostname
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None and "name" in self.fields:
            self.initial["name"] = self.fields["name"].initial = self.instance.hostname.name
        self.hostname: Hostname | None = None

    def clean_name(self) -> str:
        text: str = self.cleaned_data["name"]
        if "name" not in self.changed_data and self.instance.pk is not None:
            return text
        try:
            name = normal_hostname(text)
        except InvalidValue as error:
            raise ValidationError(str(error), code="invalid") from None
        tenant_id = self.backend.tenant_id
        if tenant_id is None:
            return name  # the backend's own form says that it needs one
        found = Hostname.objects.filter(name=name, tenant_id=tenant_id).first()
        self.hostname = found or Hostname(tenant_id=tenant_id, name=name)
        return name

    @property
    def backend(self) -> Backend:
        """The page's backend, with the tenant that was chosen on it."""
        parent: Backend = self.fields["backend"].parent_instance  # type: ignore[attr-defined]
        return parent

    def _post_clean(self) -> None:
        if not self.errors and self.hostname is not None:
            self.instance.hostname = self.hostname
        super()._post_clean()

    def save(self, commit: bool = True) -> Any:
        if self.hostname is not None and self.hostname.pk is None:
            self.hostname.tenant_id = self.backend.tenant_id
            self.hostname.save()
            self.instance.hostname = self.hostname
        return super().save(commit)


class HostnameLinkFormSet(AppendingFormSet):
    """Hostnames by name; whether the tenant may have the new ones is asked for all at once."""

    def clean(self) -> None:
        super().clean()
        new = {
            form.hostname.name: form
            for form in self.forms
            if form.is_valid() and not self._should_delete_form(form) and form.hostname and form.hostname.pk is None
        }
        if not new:
            return
        refused = dict.fromkeys(
            permissions.refused_hostnames(self.form.user, self.instance.tenant_id, new), ownership.NO_DOMAIN
        )
        allowed = [form.hostname for name, form in new.items() if name not in refused]
        refused |= {conflict.row.name: conflict.message for conflict in ownership.conflicts(allowed)}
        for name, message in refused.items():
            new[name].add_error("name", message)
        too_many = limits.excess(Hostname, self.instance.tenant, len(new))
        if too_many and not refused:
            list(new.values())[-1].add_error("name", too_many)

    def stored_key(self, form: Any, names: list[str]) -> tuple[Any, ...]:
        return (form.initial["name"],)

    def entered_key(self, form: Any, names: list[str]) -> tuple[Any, ...] | None:
        return (form.cleaned_data["name"],) if form.cleaned_data.get("name") else None

    def offered(self) -> list[str]:
        """Return the tenant's hostnames, to choose from."""
        tenant_id = self.instance.tenant_id
        if tenant_id is None:
            return []
        rows = Hostname.objects.filter(tenant_id=tenant_id).values_list("name", flat=True)
        return list(rows[:OFFERED])


class HostnameOfBackendInline(RegistryTabularInline):
    """The hostnames that a backend serves."""

    model = BackendHostname
    form = HostnameLinkForm
    formset = HostnameLinkFormSet
    extra_when_new = 1
    verbose_name = "hostname"
    verbose_name_plural = "hostnames served"
    template_after = "tenants/admin/offered_hostnames.html"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name"] if self.has_change_permission(request, obj) else ["hostname"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("hostname")


class BackendOfHostnameFormSet(AppendingFormSet):
    """Backends of the hostname's tenant."""

    def add_fields(self, form: Any, index: int | None) -> None:
        if "backend" in form.fields:
            field = form.fields["backend"]
            field.queryset = field.queryset.filter(tenant_id=self.instance.tenant_id).select_related("tenant")
            field.label_from_instance = lambda backend: backend.name
        super().add_fields(form, index)


class BackendOfHostnameInline(RegistryTabularInline):
    """The backends that serve a hostname."""

    model = BackendHostname
    formset = BackendOfHostnameFormSet
    fields = ["backend"]
    verbose_name = "backend that serves it"
    verbose_name_plural = "backends that serve it"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("backend__tenant")


def served_by() -> models.Prefetch[Any]:
    """Return what lists need to name the backends of their hostnames."""
    return models.Prefetch("backend_links", queryset=BackendHostname.objects.select_related("backend"))
