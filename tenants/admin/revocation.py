"""Revocations of single tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from relay.errors import InvalidValue
from tenants.admin.base import RegistryAdmin, all_seeing, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.admin.secrets import SecretField, SecretWidget
from tenants.changes.role import OWNERS
from tenants.models import Revocation
from tenants.services.tokens.issue import token_hash
from tenants.token_claims import read_claims


class RevocationForm(RegistryForm):
    """Form that names a token by itself, by its id or by its SHA-256."""

    token = SecretField(
        label="Token", widget=SecretWidget, help_text="The whole token; only its SHA-256 is kept. Or fill in one below."
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        token = str(cleaned.get("token") or "").strip()
        if not token:
            return cleaned
        if cleaned.get("token_hash") or cleaned.get("token_id"):
            raise ValidationError({"token": "Give the token, its id or its SHA-256: one of the three."})
        try:
            claims = read_claims(token)
        except InvalidValue as error:
            raise ValidationError({"token": f"The token {error.problem}: {error.remedy}."}) from None
        cleaned["token_hash"] = token_hash(token)
        if cleaned.get("expires_at") is None:
            cleaned["expires_at"] = claims.expires_at
        return cleaned


class RevocationAdmin(RegistryAdmin):
    """Pages of tokens that the verifier refuses before they expire."""

    form = RevocationForm
    list_display = ("__str__", "tenant_slug", "reason", "created_at", "expires_at")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("token_id", "token_hash", "tenant__slug")
    search_help_text = "Token id, SHA-256 or tenant"
    view_roles = OWNERS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        seen = rows if all_seeing(request) else rows.editable_by(request.user)
        return seen.select_related("tenant")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        new = ["token"] if obj is None or obj.pk is None else []
        return [(None, {"fields": ["tenant", *new, "token_id", "token_hash", "reason", "expires_at"]})]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse changes: a revocation is final."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operator_only(request)

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, revocation: Revocation) -> str:
        """Name the tenant."""
        return revocation.tenant.slug
