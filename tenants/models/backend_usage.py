"""BackendUsage: what a backend carried within one hour."""

from __future__ import annotations

from django.db import models

from tenants.models.backend import Backend
from tenants.models.reported import ReportedModel, owner
from tenants.models.tenant import Tenant


class BackendUsage(ReportedModel):
    """The sum over all relays that served the backend in that hour; hours without anything have no row."""

    tenant_lookup = "tenant"

    tenant = owner(Tenant, related_name="usages", db_index=False)
    backend = owner(Backend, related_name="usages", db_index=False)
    hour = models.DateTimeField(help_text="When it begins, UTC, by the relay's clock.")
    streams = models.BigIntegerField(default=0, help_text="That got a target.")
    refused = models.BigIntegerField(default=0, help_text="Users that were turned away.")
    bytes_received = models.BigIntegerField("from users", default=0)
    bytes_sent = models.BigIntegerField("to users", default=0)
    peak_streams = models.PositiveIntegerField(
        "peak", default=0, help_text="Most live streams at a time in one relay process."
    )

    class Meta:
        ordering = ["-hour", "backend"]
        constraints = [models.UniqueConstraint(fields=["backend", "hour"], name="backendusage_unique")]
        indexes = [
            models.Index(fields=["tenant", "hour"], name="backendusage_tenant"),
            models.Index(fields=["hour"], name="backendusage_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.backend} at {self.hour:%Y-%m-%d %H:%M}"
