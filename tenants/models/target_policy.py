"""Target policies of rows: where the streams of a tenant's backends, or of a site's relays, may be carried."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from django.db import models

from relay.config.target_policy import EVERYWHERE, TargetPolicy, parse_port_ranges
from tenants.fields import NormalisedCharField
from tenants.validators import normal_port_ranges, normal_target_networks

TARGET_POLICY_FIELDS: Final = ("target_networks", "target_ports", "target_unix")
"""What `policy_of` reads."""

OPEN_POLICY: Final[Mapping[str, Any]] = {"target_networks": ", ".join(EVERYWHERE), "target_unix": True}
"""The fields of a row that bounds nothing."""


class TargetPolicyModel(models.Model):
    """A row that bounds targets. Blank fields allow what needs no leave; only operators change them."""

    target_networks = NormalisedCharField(
        "target networks",
        max_length=20_000,
        blank=True,
        check=normal_target_networks,
        help_text='As in 10.0.0.0/8, 2001:db8::/32; nothing else is allowed then. "usual", or blank: all but the '
        "relay's own machine, link-local, multicast and cloud metadata addresses; list those that are allowed beside "
        "it, as in usual, 127.0.0.1. Everything: 0.0.0.0/0, ::/0.",
    )
    target_ports = NormalisedCharField(
        "target ports",
        max_length=1_000,
        blank=True,
        check=normal_port_ranges,
        help_text="As in 443, 8000-8999; blank for all.",
    )
    target_unix = models.BooleanField(
        "Unix sockets", default=False, help_text="Targets may be Unix sockets of the relay's machine."
    )

    class Meta:
        abstract = True


def policy_of(row: Mapping[str, Any], whose: str, prefix: str = "") -> TargetPolicy:
    """Return the policy that a row's fields say.

    Args:
        row: `TARGET_POLICY_FIELDS` by name.
        whose: "tenant" or "site", for messages.
        prefix: in front of the names.
    """
    return _policy(*(row[f"{prefix}{name}"] for name in TARGET_POLICY_FIELDS), whose)


@lru_cache(maxsize=16384)
def _policy(networks: str, ports: str, unix: bool, whose: str) -> TargetPolicy:
    return TargetPolicy(tuple(networks.split(", ")) if networks else (), parse_port_ranges(ports), unix, whose)
