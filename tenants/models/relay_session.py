"""RelaySession: a session that a relay holds to a node."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models

from tenants.models.backend import Backend
from tenants.models.relay_process import RelayProcess
from tenants.models.reported import OfRelayQuerySet, ReportedModel, owner


class RelaySession(ReportedModel):
    """One session as its relay told of it last: what it authenticated with, and what the node therefore sends it.

    ``claims`` holds what `relay.config.Claims.to_json` returns.
    """

    tenant_lookup = "backend__tenant"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    relay = models.ForeignKey(RelayProcess, on_delete=models.CASCADE, related_name="sessions")
    backend = owner(Backend, related_name="sessions")
    node = models.CharField(max_length=500)
    state = models.CharField(max_length=10, help_text="up, replaced (serves what it has) or draining.")
    dialect = models.CharField(max_length=10)
    up_since = models.DateTimeField("up since")
    streams = models.PositiveIntegerField("live streams", default=0)
    claims = models.JSONField(default=dict)
    expires_at = models.DateTimeField(
        "token expires", null=True, help_text="Of a pre-signed token; None where it says nothing."
    )
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the secret that its newest token is of.")

    objects: ClassVar[Any] = OfRelayQuerySet.as_manager()

    class Meta:
        ordering = ["backend", "node", "up_since"]

    def __str__(self) -> str:
        return f"{self.relay} to {self.node}"
