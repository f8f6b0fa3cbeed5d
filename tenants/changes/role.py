"""Roles: what a member may do with a tenant's rows, and what a user may do in the whole installation."""

from typing import Final

from django.db import models


class Role(models.TextChoices):
    """Owners and editors change the tenant's rows, owners its members too, viewers look."""

    OWNER = "owner", "owner"
    EDITOR = "editor", "editor"
    VIEWER = "viewer", "viewer"


class SiteRoleName(models.TextChoices):
    """The roles in the whole installation, beside the superusers, who operate it."""

    AUDITOR = "auditor", "auditor"


ALL_ROLES: Final = frozenset(Role.values)
EDIT_ROLES: Final = frozenset({Role.OWNER.value, Role.EDITOR.value})
OWNERS: Final = frozenset({Role.OWNER.value})
