"""Members of tenants: operators see all, owners their tenants'."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminSelectWidget

from tenants.admin.base import RegistryAdmin, RegistryTabularInline, all_seeing, operator_only
from tenants.admin.diagnostics import show_member_diagnostics
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryFormSet
from tenants.changes.role import OWNERS
from tenants.models import Membership


class MembershipAdmin(RegistryAdmin):
    """A user's role in a tenant."""

    list_display = ("user_name", "tenant_slug", "role")
    list_filter = (TenantFilter, "role")
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "tenant__slug")
    search_help_text = "User or tenant"
    fields = ("tenant", "user", "role")
    view_roles = OWNERS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        seen = rows if all_seeing(request) else rows.in_edited_tenants(request.user)
        return seen.select_related("user", "tenant")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant", "user") if operator_only(request) else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = super().get_readonly_fields(request, obj)
        return [*fields, "user"] if obj is not None and obj.pk is not None else fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners invite (`tenants.admin.invitation`): a form that takes user names would tell which there are."""
        return operator_only(request)

    # An owner who could take the own role away could leave the tenant without one.

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not self._own(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self._own(request, obj)

    @staticmethod
    def _own(request: HttpRequest, obj: Any) -> bool:
        return obj is not None and obj.user_id == request.user.pk and not operator_only(request)

    @admin.display(description="User", ordering="user__username")
    def user_name(self, membership: Membership) -> str:
        """Name the user."""
        return membership.user.get_username()

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, membership: Membership) -> str:
        """Name the tenant."""
        return membership.tenant.slug

    # -- after a save

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        show_member_diagnostics(self, request, Membership.objects.filter(pk=obj.pk))
        return super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        show_member_diagnostics(self, request, Membership.objects.filter(pk=obj.pk))
        return super().response_change(request, obj)


class FixedFormSet(RegistryFormSet):
    """Rows whose user and tenant stay; only those of new rows are chosen."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if index is None or index >= self.initial_form_count():
            return
        for name in ("user", "tenant"):
            if name in form.fields and name != self.fk.name and form.instance.pk is not None:
                row = getattr(form.instance, name)
                field = form.fields[name]
                field.disabled = True
                field.widget = UnfoldAdminSelectWidget(choices=[(row.pk, str(row))])


class MembershipOfTenantInline(RegistryTabularInline):
    """The members, on the tenant's page, which operators edit."""

    model = Membership
    formset = FixedFormSet
    fields = ["user", "role"]
    autocomplete_fields = ("user",)
    view_roles = OWNERS
    verbose_name = "member"
    verbose_name_plural = "members"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("user")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return all_seeing(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operator_only(request)

    has_delete_permission = has_add_permission = has_change_permission


class MembershipOfUserInline(MembershipOfTenantInline):
    """The tenants of a user, on the user's page."""

    fields = ["tenant", "role"]
    autocomplete_fields = ("tenant",)
    verbose_name = "membership"
    verbose_name_plural = "memberships"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant")
