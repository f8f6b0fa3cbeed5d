"""NexusNode: a server of the mesh that sessions are opened to."""

from __future__ import annotations

from typing import Any

from django.db import models

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.changes.generations import Root
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.validators import normal_certificate_hashes, normal_node_address, validate_pem_certificates


class NexusNode(RegistryModel):
    """One Nexus node, shared by all tenants; operators edit it."""

    tenant_lookup = None
    visible_to_members = True
    edit_roles = frozenset()
    root_kind = ChangeKind.NODE

    name = models.CharField(max_length=200, help_text="Name for people, logs and configuration files.")
    address = NormalisedCharField(
        max_length=500,
        check=normal_node_address,
        help_text="wss://host/connect; ws:// only to this machine, unless ALLOW_INSECURE_NODES is on.",
    )
    enabled = models.BooleanField(default=True, help_text="When off, no session is opened to it.")
    ca_pem = models.TextField(
        "CA certificates",
        blank=True,
        validators=[validate_pem_certificates],
        help_text="Certificates (PEM) that the node's must chain to; blank for the system's store.",
    )
    client_certificates = NormalisedCharField(
        max_length=1000,
        blank=True,
        check=normal_certificate_hashes,
        help_text="SHA-256 of the certificates that it shows when it asks whether a token is good, with commas.",
    )

    class Meta(RegistryModel.Meta):
        verbose_name = "Nexus node"
        ordering = ["name"]
        constraints = [
            FieldUniqueConstraint(
                fields=["name"],
                name="nexusnode_name_unique",
                field="name",
                violation_error_message="A node has this name already.",
            ),
            FieldUniqueConstraint(
                fields=["address"],
                name="nexusnode_address_unique",
                field="address",
                violation_error_message="A node has this address already.",
            ),
            FieldCheckConstraint(
                condition=~models.Q(name="") & ~models.Q(address=""),
                name="nexusnode_name_address_not_empty",
                field="address",
                violation_error_message="A node needs a name and an address.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def roots_of_deletion(cls, rows: models.QuerySet[Any]) -> tuple[set[Root], set[Root]]:
        links: Any = cls._meta.get_field("backend_links").related_model
        found = links._base_manager.using(rows.db).filter(node_id__in=rows.order_by().values("pk"))
        return cls.roots_of(rows), links.roots_of(found)
