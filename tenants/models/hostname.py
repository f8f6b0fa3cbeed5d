"""Hostname: a name that one tenant owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.generations import Root
from tenants.changes.querysets import roots_of_keys
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.backend import Backend, refuse_moves
from tenants.models.tenant import Tenant
from tenants.models.tree_name import DERIVED, TreeName, tree_indexes
from tenants.validators import normal_served_name


class Hostname(TreeName, RegistryModel):
    """A host name or single-label wildcard in its normal form, owned by one tenant, served by any of its backends."""

    tenant_lookup = "tenant"
    # A hostname is its backends' change; where none serves it, its own, which no relay needs to look at.
    root_kind = ChangeKind.HOSTNAME
    not_in_bulk_update = DERIVED | {"tenant", "name"}
    not_on_record = RegistryModel.not_on_record | DERIVED

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="hostnames")
    name = NormalisedCharField(
        "hostname",
        max_length=255,
        check=normal_served_name,
        help_text="app.example.com, or *.preview.example.com for any one label in front.",
    )
    backends = models.ManyToManyField(Backend, through="tenants.BackendHostname", related_name="hostnames", blank=True)

    class Meta(RegistryModel.Meta):
        ordering = ["name"]
        constraints = [
            FieldUniqueConstraint(
                fields=["name"],
                name="hostname_name_unique",
                field="name",
                violation_error_message="This hostname is taken, by this tenant or another: each name exists once.",
            ),
            FieldCheckConstraint(
                condition=~models.Q(name=""),
                name="hostname_name_not_empty",
                field="name",
                violation_error_message="A hostname needs a name.",
            ),
        ]
        indexes = tree_indexes("hostname")

    def __str__(self) -> str:
        return str(self.name)

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        refuse_moves(rows, using)

    @classmethod
    def roots_of(cls, rows: models.QuerySet[Any]) -> set[Root]:
        pairs = rows.order_by().values_list("pk", "backend_links__backend_id")
        return {
            Root(ChangeKind.HOSTNAME, key) if backend is None else Root(ChangeKind.BACKEND, backend)
            for key, backend in pairs
        }

    @classmethod
    def roots_of_instances(cls, instances: Any, using: str) -> set[Root]:
        return roots_of_keys(cls, [instance.pk for instance in instances], using)

    @classmethod
    def roots_of_deletion(cls, rows: models.QuerySet[Any]) -> tuple[set[Root], set[Root]]:
        roots = cls.roots_of(rows)
        deleted = {root for root in roots if root.kind is ChangeKind.HOSTNAME}
        return deleted, roots - deleted
