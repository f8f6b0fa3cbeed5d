"""Users in the admin: operators edit them, auditors look."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from nexusadmin.accounts.admin.operators_only import OperatorsOnly
from nexusadmin.accounts.services import login_sessions, login_throttle, second_factor
from tenants.admin.base import operator_only
from tenants.admin.diagnostics import show_member_diagnostics
from tenants.admin.history import RecordedHistory
from tenants.admin.membership import MembershipOfUserInline
from tenants.admin.opened import ChecksWhatChanged
from tenants.admin.site_role import SiteRoleInline
from tenants.models import Membership


class UserAdmin(RecordedHistory, OperatorsOnly, ChecksWhatChanged, DjangoUserAdmin, ModelAdmin):
    """Users; a member of a tenant needs "staff status" to log in here, and no permission of a single model."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (SiteRoleInline, MembershipOfUserInline)
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_superuser", "is_staff", "is_active")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        (
            "Access",
            {
                "fields": ("is_active", "is_staff", "is_superuser"),
                "description": "Staff may log in here and see the tenants that they are members of; superusers operate "
                "the whole installation; auditors look at all of it.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    actions = ("end_sessions", "reset_second_factor", "unlock_log_in")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave the password out where it cannot be changed: the page would show parts of its hash."""
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if operator_only(request) else [(None, {"fields": ("username",)}), *fieldsets[1:]]

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj is not None else ()

    # -- log-in

    @admin.action(description="End the sessions of selected users", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Log the chosen users out everywhere; the own session stays."""
        own = login_sessions.key_of(request)
        number = sum(login_sessions.end(user, but=own) for user in queryset)
        self.message_user(request, f"{number} session{'' if number == 1 else 's'} ended.", messages.SUCCESS)

    @admin.action(description="Reset the second factor of selected users", permissions=["change"])
    def reset_second_factor(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Forget the apps and recovery codes of the chosen users, and end their sessions."""
        names = []
        for user in queryset:
            if second_factor.switch_off(user):
                names.append(user.get_username())
                login_sessions.end(user, but=login_sessions.key_of(request))
        self.message_user(request, f"Reset: {', '.join(names) or 'none had one'}.", messages.SUCCESS)

    @admin.action(description="Forget the failed log-ins of selected users", permissions=["change"])
    def unlock_log_in(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let the chosen users try to log in again."""
        for user in queryset:
            login_throttle.unlock(user)
        self.message_user(request, "They may try again.", messages.SUCCESS)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        show_member_diagnostics(self, request, Membership.objects.filter(user=obj))
        return super().response_change(request, obj)
