"""BackendNode: a backend's session to a node."""

from __future__ import annotations

from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldUniqueConstraint
from tenants.models.backend import Backend
from tenants.models.node import NexusNode


class BackendNode(RegistryModel):
    """One node of a backend, in the order of its configuration file."""

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"

    backend = models.ForeignKey(Backend, on_delete=models.CASCADE, related_name="node_links")
    node = models.ForeignKey(NexusNode, on_delete=models.CASCADE, related_name="backend_links")
    position = models.PositiveIntegerField(default=0, help_text="Place in lists and files.")

    class Meta(RegistryModel.Meta):
        verbose_name = "node of a backend"
        verbose_name_plural = "nodes of backends"
        ordering = ["position", "pk"]
        constraints = [
            FieldUniqueConstraint(
                fields=["backend", "node"],
                name="backendnode_unique",
                field="node",
                violation_error_message="The backend has this node already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend} at {self.node}"
