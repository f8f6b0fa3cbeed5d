"""Backend: what one set of sessions claims and how it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, validate_slug
from django.db import models
from django.db.models import F, Q

from relay.config import RemovalMode as RelayRemovalMode
from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.limits import LimitedModel
from tenants.models.node import NexusNode
from tenants.models.tenant import Tenant
from tenants.validators import check_lines, normal_listen_address, validate_port_list


class RemovalMode(models.TextChoices):
    """What happens to the live streams of what is switched off or removed."""

    DRAIN = RelayRemovalMode.DRAIN.value, "drain: they may go on until a deadline"
    KILL = RelayRemovalMode.KILL.value, "cut: they end at once"


class Backend(LimitedModel, RegistryModel):
    """One backend client: opens a session to each of its nodes, claims its hostnames and ports, routes its streams."""

    tenant_lookup = "tenant"
    root_kind = ChangeKind.BACKEND
    not_in_bulk_update = frozenset({"tenant"})

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="backends")
    name = models.CharField(max_length=200, help_text="Unique in the tenant; attestation commands are told it.")
    enabled = models.BooleanField(default=True, help_text="When off, its sessions are closed.")
    weight = models.PositiveIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Share of the load among all backends that serve the same hostname.",
    )
    site = models.CharField(
        max_length=50,
        blank=True,
        validators=[validate_slug],
        help_text="The site whose relays serve it; blank for any.",
    )
    nodes = models.ManyToManyField(NexusNode, through="tenants.BackendNode", related_name="backends", blank=True)

    health_check_enabled = models.BooleanField(
        "health check", default=True, help_text="Ask the node whether idle streams are still alive."
    )
    health_check_inactivity_timeout = models.PositiveIntegerField(
        "inactivity timeout", default=60, help_text="Seconds without data before a stream is probed."
    )
    health_check_pong_timeout = models.PositiveIntegerField(
        "pong timeout", default=5, help_text="Seconds to wait for the node's answer."
    )

    flow_high_water = models.PositiveIntegerField(
        "high-water mark", default=48, help_text="Kept for configuration files: the relay slows users down by credits."
    )
    flow_low_water = models.PositiveIntegerField(
        "low-water mark", default=16, help_text="Kept for configuration files, likewise."
    )
    flow_max_buffer = models.PositiveIntegerField(
        "largest buffer",
        default=64,
        help_text="Times 160 KiB may wait for one target; above that its stream is closed.",
    )

    socks5_listen = NormalisedCharField(
        "SOCKS5 address",
        max_length=300,
        blank=True,
        check=normal_listen_address,
        help_text="Where the relay takes SOCKS5 connections that leave through the node, as in 127.0.0.1:1080.",
    )
    outbound_allowed = models.BooleanField(default=False, help_text="Claim the right to connect out through the node.")
    allowed_outbound_ports = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_port_list],
        help_text="Ports that may be connected to, as in [25, 465, 587]; needs outbound to be allowed.",
    )

    removal_mode = models.CharField(
        "when removed",
        max_length=5,
        choices=RemovalMode.choices,
        default=RemovalMode.DRAIN,
        help_text="What happens to its live streams when it, or one of its routes, is disabled or removed.",
    )
    removal_seconds = models.PositiveIntegerField(
        "deadline",
        null=True,
        blank=True,
        help_text="Seconds that draining streams may go on; blank for the relay's own setting.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["tenant", "name"]
        indexes = [models.Index(fields=["name"], name="backend_name")]
        constraints = [
            FieldUniqueConstraint(
                fields=["tenant", "name"],
                name="backend_name_unique_in_tenant",
                field="name",
                violation_error_message="The tenant has a backend of this name already.",
            ),
            FieldCheckConstraint(
                condition=~Q(name=""),
                name="backend_name_not_empty",
                field="name",
                violation_error_message="A backend needs a name.",
            ),
            FieldCheckConstraint(
                condition=Q(weight__gte=1),
                name="backend_weight_positive",
                field="weight",
                violation_error_message="The weight must be 1 or more.",
            ),
            FieldCheckConstraint(
                condition=Q(flow_low_water__lt=F("flow_high_water")) & Q(flow_high_water__lt=F("flow_max_buffer")),
                name="backend_flow_marks_ordered",
                field="flow_high_water",
                violation_error_message=(
                    "The low-water mark must be below the high-water mark, and that below the largest buffer."
                ),
            ),
            FieldCheckConstraint(
                condition=Q(health_check_inactivity_timeout__gte=1) & Q(health_check_pong_timeout__gte=1),
                name="backend_health_check_positive",
                field="health_check_inactivity_timeout",
                violation_error_message="The timeouts of the health check must be 1 second or more.",
            ),
            FieldCheckConstraint(
                condition=Q(outbound_allowed=True) | Q(allowed_outbound_ports=[]),
                name="backend_outbound_ports_need_outbound",
                field="allowed_outbound_ports",
                violation_error_message="Outbound ports need outbound to be allowed: allow it, or list none.",
            ),
            FieldCheckConstraint(
                condition=Q(removal_mode__in=RemovalMode.values),
                name="backend_removal_mode_known",
                field="removal_mode",
                violation_error_message="Live streams drain or are cut: choose one of the two.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant.slug}/{self.name}"

    def clean(self) -> None:
        super().clean()
        check_lines(self, "name")

    @classmethod
    def check_own_rows(cls, rows: Sequence[Self], using: str) -> None:
        refuse_moves(rows, using)


def refuse_moves(rows: Sequence[Any], using: str) -> None:
    """Refuse that a backend or hostname goes to another tenant while one of the old tenant is linked with it.

    Raises:
        ValidationError: for ``tenant``.
    """
    moved = {row.pk: row for row in rows if row.pk is not None}
    if not moved:
        return
    model = type(rows[0])
    links = "hostname_links" if model is Backend else "backend_links"
    linked = model._base_manager.using(using).filter(**{"pk__in": list(moved), f"{links}__isnull": False})
    for key, tenant_id in linked.values_list("pk", "tenant_id").distinct():
        if moved[key].tenant_id != tenant_id:
            raise ValidationError(
                {
                    "tenant": f"The {model._meta.verbose_name} cannot move to another tenant while it is linked: "
                    "a hostname and the backends that serve it have one tenant. Take the links off first."
                }
            )
