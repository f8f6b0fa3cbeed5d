"""Keys that tenants sign their tokens with: owners create and revoke them; no page shows one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldBooleanSwitchWidget

from tenants.admin.base import RegistryAdmin, all_seeing, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.changes.role import OWNERS
from tenants.models import KeyState, TenantKey
from tenants.models.tenant_key import SIGNS
from tenants.services.tokens.tenant_keys import OVERLAP, retire_older

MOST_HOURS = 90 * 24


class NewKeyForm(RegistryForm):
    """A new key, and what becomes of those before it."""

    overlap = forms.IntegerField(
        label="Hours of overlap",
        min_value=0,
        max_value=MOST_HOURS,
        initial=int(OVERLAP.total_seconds() // 3_600),
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="The new key signs at once; those before it are accepted that long, for tokens still in use.",
    )


class KeyForm(RegistryForm):
    """When a key retires, or that it is revoked."""

    revoke = forms.BooleanField(
        label="Revoke it now",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Nodes that ask the registry no longer accept what it has signed. This cannot be undone.",
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        key = self.instance
        self.revoked_before = key.revoked_at
        if "accepted_until" in self.changed_data and cleaned.get("accepted_until") is not None:
            others = TenantKey.objects.filter(SIGNS, tenant=key.tenant_id).exclude(pk=key.pk)
            if not others.exists():
                self.add_error("accepted_until", "No other key would sign: make a new one, and this one retires.")
        if cleaned.get("revoke") and key.revoked_at is None:
            key.revoked_at = timezone.now()
        elif cleaned.get("revoked_because") and key.revoked_at is None:
            raise ValidationError({"revoked_because": "Switch on that it is revoked, or leave the reason out."})
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:  # the page that is shown again tells what is stored
            self.instance.revoked_at = self.revoked_before


class TenantKeyAdmin(RegistryAdmin):
    """A tenant's keys."""

    list_display = ("kid", "tenant_slug", "state_label", "fingerprint", "created_at", "accepted_until", "revoked_at")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("kid", "tenant__slug")
    search_help_text = "Key id or tenant"
    readonly_fields = ("kid", "fingerprint", "state_label", "created_at", "revoked_at")
    view_roles = OWNERS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        seen = rows if all_seeing(request) else rows.editable_by(request.user)
        return seen.select_related("tenant")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = KeyForm if change else NewKeyForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or obj.pk is None:
            return [(None, {"fields": ["tenant", "secret", "overlap"]})]
        fields = ["tenant", "kid", "fingerprint", "state_label", "created_at", "accepted_until"]
        if obj.revoked_at is not None:
            fields += ["revoked_at", "revoked_because"]
        elif self.has_change_permission(request, obj):
            fields += ["revoke", "revoked_because"]
        return [(None, {"fields": fields})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = super().get_readonly_fields(request, obj)
        revoked = obj is not None and obj.revoked_at is not None
        return [*fields, "accepted_until", "revoked_because"] if revoked else fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse deletions: owners revoke, as a deleted key says nothing of what it signed."""
        return operator_only(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change and (number := retire_older(obj, timedelta(hours=form.cleaned_data["overlap"]))):
            keys = "key retires" if number == 1 else "keys retire"
            self.message_user(request, f"{number} older {keys}.", messages.INFO)

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, key: TenantKey) -> str:
        """Name the tenant."""
        return key.tenant.slug

    @display(
        description="State",
        label={
            KeyState.ACTIVE: "success",
            KeyState.RETIRING: "warning",
            KeyState.RETIRED: "info",
            KeyState.REVOKED: "danger",
        },
    )
    def state_label(self, key: TenantKey) -> str:
        """Return the state of the key."""
        return key.state().value
