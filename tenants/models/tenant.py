"""Tenant: the owner of backends and hostnames."""

from __future__ import annotations

from typing import Any

from django.core.validators import validate_slug
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.generations import Root
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.limits import LimitedModel
from tenants.models.target_policy import TargetPolicyModel
from tenants.validators import normal_port_ranges


class Tenant(TargetPolicyModel, LimitedModel, RegistryModel):
    """A customer, team or project; owns backends and hostnames, and has users as members.

    Its limits hold for all of its backends together.
    """

    tenant_lookup = "pk"
    edit_roles = frozenset()
    root_kind = ChangeKind.TENANT

    slug = models.CharField(
        max_length=50,
        validators=[validate_slug],
        help_text="Short name in addresses, logs and commands: letters, digits, hyphens and underscores.",
    )
    name = models.CharField(max_length=200, blank=True, help_text="Name for people; the slug where blank.")
    enabled = models.BooleanField(default=True, help_text="When off, this tenant's backends are not served.")
    max_backends = models.PositiveIntegerField(
        "backends", default=0, help_text="That it may have at most; 0 for no limit."
    )
    max_hostnames = models.PositiveIntegerField(
        "hostnames", default=0, help_text="That it may have at most; 0 for no limit."
    )
    public_ports = NormalisedCharField(
        "public ports",
        max_length=1_000,
        blank=True,
        check=normal_port_ranges,
        help_text="Whole ports of the nodes that its members may have backends claim, as in 853, 5000-5010; blank for "
        "none. Tenants that claim the same port of a node share its streams by weight.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["slug"]
        constraints = [
            FieldUniqueConstraint(
                fields=["slug"],
                name="tenant_slug_unique",
                field="slug",
                violation_error_message="A tenant has this slug already.",
            ),
            FieldCheckConstraint(
                condition=~models.Q(slug=""),
                name="tenant_slug_not_empty",
                field="slug",
                violation_error_message="A tenant needs a slug.",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.slug

    @classmethod
    def roots_of_deletion(cls, rows: models.QuerySet[Any]) -> tuple[set[Root], set[Root]]:
        keys = list(rows.order_by().values_list("pk", flat=True))
        deleted = {Root(ChangeKind.TENANT, key) for key in keys}
        for name in ("backends", "hostnames"):
            model: Any = cls._meta.get_field(name).related_model
            below = model._base_manager.using(rows.db).filter(tenant_id__in=keys)
            deleted |= model.roots_of(below)
        return deleted, set()
