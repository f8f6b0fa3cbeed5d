"""CredentialUse: when a backend's credential was last taken by a node."""

from __future__ import annotations

from django.db import models

from tenants.models.backend import Backend
from tenants.models.relay_process import NAME_LENGTH
from tenants.models.reported import ReportedModel, with_its_owner


class CredentialUse(ReportedModel):
    """The last time that a node took a token of a backend's credential, at a handshake or at a re-authentication."""

    tenant_lookup = "backend__tenant"

    backend = models.OneToOneField(
        Backend, on_delete=with_its_owner, db_constraint=False, primary_key=True, related_name="credential_use"
    )
    used_at = models.DateTimeField("last used", help_text="By the relay's clock.")
    relay = models.CharField(max_length=NAME_LENGTH + 21)
    node = models.CharField(max_length=500)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the secret; blank without one.")

    class Meta:
        ordering = ["-used_at"]

    def __str__(self) -> str:
        return f"{self.used_at:%Y-%m-%d %H:%M} UTC by {self.relay}"
