"""The sidebar: what the user may look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from tenants.admin.gate import visible
from tenants.changes.role import ALL_ROLES
from tenants.models import (
    AuditEntry,
    Backend,
    Credential,
    Domain,
    Hostname,
    HostnameGrant,
    Invitation,
    Membership,
    NexusNode,
    Revocation,
    Site,
    Tenant,
    TenantKey,
)

_GROUPS: tuple[tuple[str, tuple[tuple[Any, str], ...]], ...] = (
    (
        "Registry",
        (
            (Backend, "dns"),
            (Hostname, "language"),
            (Domain, "domain_verification"),
            (HostnameGrant, "handshake"),
            (Credential, "key"),
            (TenantKey, "vpn_key"),
            (Revocation, "block"),
            (NexusNode, "hub"),
            (Site, "location_on"),
        ),
    ),
    (
        "Who",
        (
            (Tenant, "apartment"),
            (Membership, "badge"),
            (Invitation, "mail"),
            (get_user_model(), "person"),
            (Group, "groups"),
        ),
    ),
    ("Record", ((AuditEntry, "history"),)),
)


def list_address(model: Any) -> str:
    """Return the address of the model's list."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def favicon(request: HttpRequest) -> str:
    """Return the address of the site's icon."""
    return static("tenants/favicon.svg")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return Unfold's sidebar."""
    found: list[dict[str, Any]] = [
        {"items": [{"title": "Overview", "icon": "space_dashboard", "link": reverse("admin:index")}]}
    ]
    for title, models in _GROUPS:
        items = [
            {"title": str(model._meta.verbose_name_plural).capitalize(), "icon": icon, "link": list_address(model)}
            for model, icon in models
            if admin.site.get_model_admin(model).has_module_permission(request)
        ]
        if items:
            found.append({"title": title, "separator": True, "items": items})
    if visible(request, None, ALL_ROLES):
        pages = (
            ("Who serves it?", "alt_route", "admin:tenants_resolve"),
            ("Usage", "monitoring", "admin:tenants_usage"),
        )
        items = [{"title": name, "icon": icon, "link": reverse(address)} for name, icon, address in pages]
        found.append({"title": "Live", "separator": True, "items": items})
    return found
