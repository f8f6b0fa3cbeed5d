"""Invitations: owners invite people into their tenants without learning who has an account."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from tenants.admin.base import RegistryAdmin, all_seeing, operator_only
from tenants.admin.filters import TenantFilter
from tenants.admin.forms import RegistryForm
from tenants.changes.role import OWNERS
from tenants.models import Invitation
from tenants.models.invitation import normal_email
from tenants.services import invitations


class InvitationForm(RegistryForm):
    """Whom to invite."""

    def clean_email(self) -> str:
        try:
            return normal_email(self.cleaned_data["email"])
        except ValidationError as error:
            raise ValidationError(error.messages) from None

    def _get_validation_exclusions(self) -> set[str]:
        return super()._get_validation_exclusions() - {"accepted_at"}  # one open invitation for an address

    def check_user(self) -> None:
        if self.instance.pk is None:
            refused = invitations.too_many_mails(self.instance.tenant_id, self.instance.email)
            if refused:
                raise ValidationError({"email": refused})


class InvitationAdmin(RegistryAdmin):
    """Pages of invitations to a tenant. Deleting an invitation ends its link."""

    form = InvitationForm
    list_display = ("email", "tenant_slug", "role", "state_label", "expires_at")
    list_filter = (TenantFilter, "role")
    list_select_related = ("tenant",)
    search_fields = ("email", "tenant__slug")
    search_help_text = "Address or tenant"
    actions = ("send_again",)
    view_roles = OWNERS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        seen = rows if all_seeing(request) else rows.editable_by(request.user)
        valid = ExpressionWrapper(invitations.sender_may(), output_field=BooleanField())
        return seen.select_related("tenant").annotate(valid=valid)

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("tenant",) if operator_only(request) else ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["tenant", "email", "role", *([] if obj is None else ["state_label", "sent_at", "expires_at"])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else [*fields, "email", "state_label", "sent_at", "expires_at"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.accepted_at is None)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.invited_by = request.user
        super().save_model(request, obj, form, change)
        if not change:
            self.send(request, obj)

    @admin.action(description="Send a new link for selected invitations", permissions=["change"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Mail new links for the chosen invitations; those before work no more."""
        open_ones = [row for row in queryset if self.has_change_permission(request, row)]
        due = [row for row in open_ones if invitations.may_send_again(row)]
        for row in due:
            row.invited_by = request.user
            row.save()
            self.send(request, row)
        if due:
            self.message_user(request, f"{len(due)} sent.", messages.SUCCESS)
        if len(due) < len(open_ones):
            waiting = len(open_ones) - len(due)
            said = f"wait a minute between two mails, and a day after {invitations.MOST_TO_ADDRESS}"
            self.message_user(request, f"{waiting} not sent: {said}.", messages.WARNING)

    @staticmethod
    def send(request: HttpRequest, invitation: Invitation) -> None:
        """Mail the link once what is written is committed. Where it leads is not for the request to say, if known."""
        from tenants import tasks  # Celery: for who asks for work, not for who checks or shows pages

        site = f"{settings.PUBLIC_URL}/" if settings.PUBLIC_URL else request.build_absolute_uri("/")
        transaction.on_commit(partial(tasks.mail_invitation, invitation.pk, site))

    # -- columns

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, invitation: Invitation) -> str:
        """Name the tenant."""
        return invitation.tenant.slug

    @display(
        description="State",
        label={"open": "info", "accepted": "success", "expired": "warning", "not sent": "warning", "ended": "warning"},
    )
    def state_label(self, invitation: Invitation) -> str:
        """Return the state of the invitation; it ends where its sender may no longer invite."""
        state = invitation.state
        return "ended" if state == "open" and not getattr(invitation, "valid", True) else state
