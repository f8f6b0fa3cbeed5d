"""Site role: what a user may do in the whole installation, beside the superusers, who operate it."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.role import SiteRoleName
from tenants.constraints import FieldCheckConstraint


class SiteRole(RegistryModel):
    """Lets a user look at everything and change nothing, whatever memberships the user has beside it."""

    edit_roles = frozenset()
    decides_sight = True

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="site_role")
    role = models.CharField(
        max_length=10,
        choices=SiteRoleName.choices,
        help_text="Auditors look at everything, of all tenants, and change nothing. Superusers need no role.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["user"]
        constraints = [
            FieldCheckConstraint(
                condition=models.Q(role__in=SiteRoleName.values),
                name="siterole_role_known",
                field="role",
                violation_error_message="The role must be auditor.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of the installation"
