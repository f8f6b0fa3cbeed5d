"""Role: what a member may do with a tenant's rows."""

from django.db import models


class Role(models.TextChoices):
    """Owners and editors change the tenant's rows, owners its members too, viewers look."""

    OWNER = "owner", "owner"
    EDITOR = "editor", "editor"
    VIEWER = "viewer", "viewer"


EDIT_ROLES = frozenset({Role.OWNER.value, Role.EDITOR.value})
