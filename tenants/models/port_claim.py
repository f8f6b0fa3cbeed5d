"""PortClaim: a whole public port that a backend claims."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from relay.config import Transport as RelayTransport
from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.models.backend import Backend
from tenants.validators import validate_port


class Transport(models.TextChoices):
    """What carries a stream between the user and the node."""

    TCP = RelayTransport.TCP.value, "TCP"
    UDP = RelayTransport.UDP.value, "UDP"


class PortClaim(RegistryModel):
    """A public TCP or UDP port that goes to the backend whatever the hostname (``tcpPorts``, ``udpRoutes``)."""

    tenant_lookup = "backend__tenant"
    root_kind = ChangeKind.BACKEND
    root_lookup = "backend_id"
    root_field = "backend"

    backend = models.ForeignKey(Backend, on_delete=models.CASCADE, related_name="port_claims")
    transport = models.CharField(max_length=3, choices=Transport.choices, default=Transport.TCP)
    public_port = models.PositiveIntegerField(
        validators=[validate_port], help_text="1 to 65535; the node has an allow-list."
    )
    flow_idle_timeout = models.PositiveIntegerField(
        null=True, blank=True, help_text="UDP only: seconds without a datagram after which the node forgets a flow."
    )

    class Meta(RegistryModel.Meta):
        ordering = ["transport", "public_port"]
        constraints = [
            FieldUniqueConstraint(
                fields=["backend", "transport", "public_port"],
                name="portclaim_unique",
                field="public_port",
                violation_error_message="The backend claims this port already.",
            ),
            FieldCheckConstraint(
                condition=Q(transport__in=Transport.values),
                name="portclaim_transport_known",
                field="transport",
                violation_error_message="The transport must be tcp or udp.",
            ),
            FieldCheckConstraint(
                condition=Q(public_port__gte=1, public_port__lte=65535),
                name="portclaim_port_range",
                field="public_port",
                violation_error_message="The port must be from 1 to 65535.",
            ),
            FieldCheckConstraint(
                condition=Q(flow_idle_timeout__isnull=True) | Q(flow_idle_timeout__gte=1, transport=Transport.UDP),
                name="portclaim_flow_idle_timeout_udp",
                field="flow_idle_timeout",
                violation_error_message="A flow idle timeout is for UDP ports only, and 1 second or more.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.transport}:{self.public_port}"
