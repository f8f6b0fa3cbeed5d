"""Diagnostics that are shown after a save."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from tenants.models import Backend, Membership
from tenants.models.below_backend import with_details
from tenants.services.diagnostics import backend_diagnostics, membership_diagnostics

SHOWN_DIAGNOSTICS = 8


def show_diagnostics(model_admin: ModelAdmin, request: HttpRequest, *backends: Backend) -> None:
    """Show what most likely does not work of what was just saved."""
    rows = with_details(Backend.objects.filter(pk__in=[backend.pk for backend in backends]))
    found = [(row.name, text) for row in rows for text in backend_diagnostics(row)]
    _message(model_admin, request, found)


def show_member_diagnostics(model_admin: ModelAdmin, request: HttpRequest, memberships: QuerySet[Membership]) -> None:
    """Show which of the members that were just saved cannot log in."""
    rows = memberships.select_related("user", "tenant")
    found = [(row.tenant.slug, text) for row in rows for text in membership_diagnostics(row)]
    _message(model_admin, request, found)


def _message(model_admin: ModelAdmin, request: HttpRequest, found: list[tuple[str, str]]) -> None:
    if found:
        text = format_html_join("", "<br><strong>{}</strong>: {}", found[:SHOWN_DIAGNOSTICS])
        more = f" And {len(found) - SHOWN_DIAGNOSTICS} more." if len(found) > SHOWN_DIAGNOSTICS else ""
        model_admin.message_user(request, format_html("Saved, but look at this:{}{}", text, more), messages.WARNING)
