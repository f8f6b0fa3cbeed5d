"""Membership: a user's role in a tenant."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.role import Role
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models.tenant import Tenant


class Membership(RegistryModel):
    """Gives a user a role in one tenant. Nothing is routed by it, so it is no change for the relays."""

    tenant_lookup = "tenant"
    edit_roles = frozenset({Role.OWNER})
    decides_sight = True

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(
        max_length=10,
        choices=Role.choices,
        default=Role.VIEWER,
        help_text="Owners and editors change the tenant's rows, viewers look at them.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["tenant", "user"]
        constraints = [
            FieldUniqueConstraint(
                fields=["user", "tenant"],
                name="membership_user_tenant_unique",
                field="user",
                violation_error_message="This user is a member of the tenant already.",
            ),
            FieldCheckConstraint(
                condition=models.Q(role__in=Role.values),
                name="membership_role_known",
                field="role",
                violation_error_message="The role must be owner, editor or viewer.",
            ),
        ]

    @classmethod
    def never_by(cls, user: Any) -> models.Q | None:
        """Keep everyone from the own role: so an owner's hand never leaves a tenant without an owner."""
        return models.Q(user_id=user.pk)

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.tenant}"
