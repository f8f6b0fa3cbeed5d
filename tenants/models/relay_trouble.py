"""RelayUplink and RelayTarget: what does not work at a relay, as it told of it last. What works has no row."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models

from tenants.models.backend import Backend
from tenants.models.relay_process import RelayProcess
from tenants.models.reported import OfRelayQuerySet, ReportedModel, owner


class RelayTrouble(ReportedModel):
    """Something that a relay tries to do for a backend, and cannot."""

    tenant_lookup = "backend__tenant"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    relay = models.ForeignKey(RelayProcess, on_delete=models.CASCADE, related_name="%(class)ss")
    backend = owner(Backend, related_name="%(class)ss")
    problem = models.TextField(blank=True, help_text="With the remedy, in the words of the relay's log.")
    since = models.DateTimeField()

    objects: ClassVar[Any] = OfRelayQuerySet.as_manager()

    class Meta:
        abstract = True


class RelayUplink(RelayTrouble):
    """A node at which a relay has no session of the backend, or none that serves the newest configuration."""

    node = models.CharField(max_length=500)
    state = models.CharField(max_length=10, help_text="connecting, waiting, refused, or up.")
    attempts = models.PositiveIntegerField(default=0, help_text="That failed since the last success.")
    next_try = models.DateTimeField(null=True, help_text="None while one is under way, or where only an edit helps.")

    class Meta:
        ordering = ["backend", "node", "since"]

    def __str__(self) -> str:
        return f"{self.relay} to {self.node}"


class RelayTarget(RelayTrouble):
    """Targets of one route that a relay cannot reach: its health check or the last user's dial failed."""

    target = models.CharField(max_length=500)
    all_fail = models.BooleanField(default=False, help_text="Nor any other target of the backend.")

    class Meta:
        ordering = ["backend", "target", "since"]

    def __str__(self) -> str:
        return f"{self.relay} to {self.target}"
