"""The role in the whole installation, on the user's page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from tenants.admin.base import RegistryTabularInline, all_seeing
from tenants.models import SiteRole


class SiteRoleInline(RegistryTabularInline):
    """The inline that makes a user an auditor. Only operators edit it: `SiteRole.edit_roles`."""

    model = SiteRole
    fields = ["role"]
    max_num = 1
    verbose_name = "role in the whole installation"
    verbose_name_plural = "role in the whole installation"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return all_seeing(request)
