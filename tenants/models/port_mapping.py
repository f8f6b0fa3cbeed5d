"""PortMapping: where the streams of a public port go."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.fields import NormalisedCharField
from tenants.models.backend import Backend
from tenants.models.base import RegistryModel
from tenants.models.generation import ChangeKind
from tenants.models.port_claim import Transport
from tenants.validators import normal_target, validate_port


class PortMapping(RegistryModel):
    """Routes the streams of one public port: by hostname (`HostRoute`), else to the default target."""

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"

    backend = models.ForeignKey(Backend, on_delete=models.CASCADE, related_name="port_mappings")
    transport = models.CharField(max_length=3, choices=Transport.choices, default=Transport.TCP)
    public_port = models.PositiveIntegerField(validators=[validate_port], help_text="The node's port: 1 to 65535.")
    default_target = NormalisedCharField(
        max_length=300,
        blank=True,
        check=normal_target,
        help_text="host:port, [IPv6]:port or unix:/path for what no host route takes; blank: that is refused.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["public_port", "transport"]
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "transport", "public_port"],
                name="portmapping_unique",
                violation_error_message="The backend maps this port already.",
            ),
            models.CheckConstraint(
                condition=Q(transport__in=Transport.values),
                name="portmapping_transport_known",
                violation_error_message="The transport must be tcp or udp.",
            ),
            models.CheckConstraint(
                condition=Q(public_port__gte=1, public_port__lte=65535),
                name="portmapping_port_range",
                violation_error_message="The port must be from 1 to 65535.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.transport}:{self.public_port}"
