"""What is said after a save."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from tenants.admin.base import RegistryAdmin
from tenants.models import Backend
from tenants.models.backend import with_details
from tenants.services.warnings import backend_warnings

SHOWN_WARNINGS = 8


def warn(model_admin: RegistryAdmin, request: HttpRequest, *backends: Backend) -> None:
    """Show what most likely does not work of what was just saved."""
    rows = with_details(Backend.objects.filter(pk__in=[backend.pk for backend in backends]))
    found = [(row.name, text) for row in rows for text in backend_warnings(row)]
    if found:
        text = format_html_join("", "<br><strong>{}</strong>: {}", found[:SHOWN_WARNINGS])
        more = f" And {len(found) - SHOWN_WARNINGS} more." if len(found) > SHOWN_WARNINGS else ""
        model_admin.message_user(request, format_html("Saved, but look at this:{}{}", text, more), messages.WARNING)
