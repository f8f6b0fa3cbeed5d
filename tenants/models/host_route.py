"""HostRoute: where a hostname's streams on a public port go."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.port_mapping import TARGETS_LENGTH, PortMapping
from tenants.validators import normal_route_pattern, normal_targets


class HostRoute(RegistryModel):
    """Sends the streams of one port mapping whose hostname matches to a target of their own."""

    tenant_lookup = "port_mapping__backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "port_mapping__backend_id"
    root_field = "port_mapping"

    port_mapping = models.ForeignKey(PortMapping, on_delete=models.CASCADE, related_name="host_routes")
    pattern = NormalisedCharField(
        "hostname",
        max_length=255,
        check=normal_route_pattern,
        help_text="api.example.com, or *.preview.example.com for any one label in front.",
    )
    target = NormalisedCharField(
        max_length=TARGETS_LENGTH,
        check=normal_targets,
        help_text="host:port, [IPv6]:port or unix:/path; several with commas between them.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["pattern"]
        constraints = [
            FieldUniqueConstraint(
                fields=["port_mapping", "pattern"],
                name="hostroute_pattern_unique",
                field="pattern",
                violation_error_message="The port mapping routes this hostname already.",
            ),
            FieldCheckConstraint(
                condition=~Q(pattern="") & ~Q(target=""),
                name="hostroute_pattern_target_not_empty",
                field="target",
                violation_error_message="A host route needs a hostname and a target.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pattern} to {self.target}"
