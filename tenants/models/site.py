"""Site: a place where relays run, and what of its network targets may be in."""

from __future__ import annotations

from django.core.validators import validate_slug
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models.target_policy import TargetPolicyModel


class Site(TargetPolicyModel, RegistryModel):
    """What the relays of one site (``runrelay --site``) may dial, whatever a tenant may. Operators' own.

    A site that has no row bounds nothing.
    """

    tenant_lookup = None
    visible_to_members = False
    edit_roles = frozenset()
    root_kind = ChangeKind.SITE

    slug = models.CharField(
        max_length=50,
        validators=[validate_slug],
        help_text="What backends and runrelay --site call it: letters, digits, hyphens and underscores.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["slug"]
        constraints = [
            FieldUniqueConstraint(
                fields=["slug"],
                name="site_slug_unique",
                field="slug",
                violation_error_message="A site has this slug already.",
            ),
            FieldCheckConstraint(
                condition=~models.Q(slug=""),
                name="site_slug_not_empty",
                field="slug",
                violation_error_message="A site needs a slug.",
            ),
        ]

    def __str__(self) -> str:
        return self.slug
