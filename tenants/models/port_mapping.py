"""PortMapping: where the streams of a public port go."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from relay.config.port_options import AccessList, PortOptions, TargetHealth
from relay.config.port_options import AccessMode as RelayAccessMode
from relay.config.port_options import ProxyProtocol as RelayProxyProtocol
from relay.config.port_options import TargetOrder as RelayTargetOrder
from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.constraints import FieldCheckConstraint, FieldUniqueConstraint
from tenants.fields import NormalisedCharField
from tenants.models.backend import Backend
from tenants.models.port_claim import Transport
from tenants.validators import normal_networks, normal_targets, validate_port

TARGETS_LENGTH: Final = 1_000  # characters of one route's targets
_LONGEST_DIAL: Final = 60  # seconds; users do not wait longer

OPTION_FIELDS: Final = (
    "proxy_protocol",
    "target_order",
    "dial_timeout",
    "target_health_interval",
    "target_health_timeout",
    "target_health_up_after",
    "target_health_down_after",
    "access_allow",
    "access_deny",
    "access_mode",
)
"""How the port's streams are carried: what `options_of` reads."""


class ProxyProtocol(models.TextChoices):
    """Which header of the PROXY protocol a target gets in front of a stream."""

    NONE = RelayProxyProtocol.NONE.value, "none"
    V1 = RelayProxyProtocol.V1.value, "version 1"
    V2 = RelayProxyProtocol.V2.value, "version 2"


class TargetOrder(models.TextChoices):
    """Which of several targets a stream tries first."""

    ORDERED = RelayTargetOrder.ORDERED.value, "the first that is up"
    ROUND_ROBIN = RelayTargetOrder.ROUND_ROBIN.value, "each in turn"


class AccessMode(models.TextChoices):
    """What happens to users that the access list does not admit."""

    ENFORCE = RelayAccessMode.ENFORCE.value, "refuse them"
    OBSERVE = RelayAccessMode.OBSERVE.value, "count and log them only"


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
        max_length=TARGETS_LENGTH,
        blank=True,
        check=normal_targets,
        help_text="host:port, [IPv6]:port or unix:/path, several with commas between them, for what no host route "
        "takes; blank: that is refused.",
    )

    proxy_protocol = models.CharField(
        "PROXY protocol",
        max_length=2,
        blank=True,
        choices=ProxyProtocol.choices,
        default=ProxyProtocol.NONE,
        help_text="Tells targets the user's address in front of a stream; only for targets that expect it.",
    )
    target_order = models.CharField(
        "several targets",
        max_length=11,
        choices=TargetOrder.choices,
        default=TargetOrder.ORDERED,
        help_text="Which of a route's targets a stream tries first.",
    )
    dial_timeout = models.PositiveIntegerField(
        default=int(PortOptions().dial_timeout),
        validators=[MinValueValidator(1), MaxValueValidator(_LONGEST_DIAL)],
        help_text=f"Seconds for the dial of a stream, all of its targets together: 1 to {_LONGEST_DIAL}.",
    )
    target_health_interval = models.PositiveIntegerField(
        "check targets every",
        default=int(TargetHealth().interval),
        help_text="Seconds between two connections that try a target; 0 for no checks.",
    )
    target_health_timeout = models.PositiveIntegerField(
        "check timeout",
        default=int(TargetHealth().timeout),
        validators=[MinValueValidator(1)],
        help_text="Seconds that such a connection may take.",
    )
    target_health_up_after = models.PositiveIntegerField(
        "up after",
        default=TargetHealth().up_after,
        validators=[MinValueValidator(1)],
        help_text="Successes in a row that bring a target back.",
    )
    target_health_down_after = models.PositiveIntegerField(
        "down after",
        default=TargetHealth().down_after,
        validators=[MinValueValidator(1)],
        help_text="Failures in a row that take a target out; the last one is never taken out.",
    )
    access_allow = NormalisedCharField(
        "allowed networks",
        max_length=20_000,
        blank=True,
        check=normal_networks,
        help_text="As in 192.0.2.0/24, 2001:db8::/32; blank for all addresses.",
    )
    access_deny = NormalisedCharField(
        "denied networks",
        max_length=20_000,
        blank=True,
        check=normal_networks,
        help_text="Wins over what is allowed.",
    )
    access_mode = models.CharField(
        "who is not let in",
        max_length=7,
        choices=AccessMode.choices,
        default=AccessMode.ENFORCE,
        help_text="Observe a new list before it is enforced.",
    )

    class Meta(RegistryModel.Meta):
        ordering = ["public_port", "transport"]
        constraints = [
            FieldUniqueConstraint(
                fields=["backend", "transport", "public_port"],
                name="portmapping_unique",
                field="public_port",
                violation_error_message="The backend maps this port already.",
            ),
            FieldCheckConstraint(
                condition=Q(transport__in=Transport.values),
                name="portmapping_transport_known",
                field="transport",
                violation_error_message="The transport must be tcp or udp.",
            ),
            FieldCheckConstraint(
                condition=Q(public_port__gte=1, public_port__lte=65535),
                name="portmapping_port_range",
                field="public_port",
                violation_error_message="The port must be from 1 to 65535.",
            ),
            FieldCheckConstraint(
                condition=Q(proxy_protocol__in=ProxyProtocol.values),
                name="portmapping_proxy_protocol_known",
                field="proxy_protocol",
                violation_error_message="The PROXY protocol has the versions 1 and 2.",
            ),
            FieldCheckConstraint(
                condition=~Q(transport=Transport.UDP, proxy_protocol=ProxyProtocol.V1),
                name="portmapping_proxy_protocol_udp",
                field="proxy_protocol",
                violation_error_message="Version 1 of the PROXY protocol has no form for UDP: choose version 2.",
            ),
            FieldCheckConstraint(
                condition=Q(target_order__in=TargetOrder.values),
                name="portmapping_target_order_known",
                field="target_order",
                violation_error_message="Several targets are tried in their order or in turn: choose one of the two.",
            ),
            FieldCheckConstraint(
                condition=Q(dial_timeout__gte=1, dial_timeout__lte=_LONGEST_DIAL),
                name="portmapping_dial_timeout_range",
                field="dial_timeout",
                violation_error_message=f"The dial timeout must be from 1 to {_LONGEST_DIAL} seconds.",
            ),
            FieldCheckConstraint(
                condition=Q(
                    target_health_timeout__gte=1, target_health_up_after__gte=1, target_health_down_after__gte=1
                ),
                name="portmapping_target_health_positive",
                field="target_health_timeout",
                violation_error_message="Timeout and thresholds of the target checks must be 1 or more.",
            ),
            FieldCheckConstraint(
                condition=Q(access_mode__in=AccessMode.values),
                name="portmapping_access_mode_known",
                field="access_mode",
                violation_error_message="An access list is enforced or observed: choose one of the two.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.transport}:{self.public_port}"


def options_of(row: Mapping[str, Any]) -> PortOptions:
    """Return what a row says of its streams.

    Args:
        row: `OPTION_FIELDS` by name.
    """
    return _options(*(row[name] for name in OPTION_FIELDS))


@lru_cache(maxsize=1024)  # most of many thousand rows say the same
def _options(
    proxy_protocol: str,
    target_order: str,
    dial_timeout: int,
    interval: int,
    timeout: int,
    up_after: int,
    down_after: int,
    allow: str,
    deny: str,
    mode: str,
) -> PortOptions:
    return PortOptions(
        proxy_protocol=RelayProxyProtocol(proxy_protocol),
        target_order=RelayTargetOrder(target_order),
        access=AccessList(_networks(allow), _networks(deny), RelayAccessMode(mode)),
        target_health=TargetHealth(float(interval), float(timeout), up_after, down_after),
        dial_timeout=float(dial_timeout),
    )


def _networks(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def fields_of(options: PortOptions) -> dict[str, Any]:
    """Return the fields, by name, of a row that says this; `options_of` reads it back."""
    health, access = options.target_health, options.access
    return {
        "proxy_protocol": str(options.proxy_protocol),
        "target_order": str(options.target_order),
        "dial_timeout": int(options.dial_timeout),
        "target_health_interval": int(health.interval),
        "target_health_timeout": int(health.timeout),
        "target_health_up_after": health.up_after,
        "target_health_down_after": health.down_after,
        "access_allow": ", ".join(access.allow),
        "access_deny": ", ".join(access.deny),
        "access_mode": str(access.mode),
    }
