"""BackendHostname: a backend serves a hostname."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from django.core.exceptions import ValidationError
from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldUniqueConstraint
from tenants.models.backend import Backend
from tenants.models.hostname import Hostname


class BackendHostname(RegistryModel):
    """One hostname that a backend claims, in the order of its configuration file. Both belong to one tenant."""

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"
    not_in_bulk_update = frozenset({"backend", "hostname"})

    backend = models.ForeignKey(Backend, on_delete=models.CASCADE, related_name="hostname_links")
    hostname = models.ForeignKey(Hostname, on_delete=models.CASCADE, related_name="backend_links")
    position = models.PositiveIntegerField(default=0, help_text="Place in lists and files.")

    class Meta(RegistryModel.Meta):
        verbose_name = "hostname of a backend"
        verbose_name_plural = "hostnames of backends"
        ordering = ["position", "pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["backend", "hostname"],
                name="backendhostname_unique",
                field="hostname",
                violation_error_message="The backend serves this hostname already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.hostname} by {self.backend}"

    def clean(self) -> None:
        super().clean()
        if self.backend_id is not None and self.hostname_id is not None:
            self.check_own_rows([self], self._state.db or "default")

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        backends = _tenants(Backend, {row.backend_id for row in rows}, using)
        hostnames = _tenants(Hostname, {row.hostname_id for row in rows}, using)
        for row in rows:
            # A key that is not there is for the foreign key to refuse.
            owners = {backends.get(row.backend_id), hostnames.get(row.hostname_id)} - {None}
            if len(owners) > 1:
                raise ValidationError(
                    {"hostname": "The hostname belongs to another tenant than the backend: choose one of its own."}
                )


def _tenants(model: type[Backend] | type[Hostname], keys: set[int], using: str) -> dict[int, int]:
    return dict(model._base_manager.using(using).filter(pk__in=keys).values_list("pk", "tenant_id"))
