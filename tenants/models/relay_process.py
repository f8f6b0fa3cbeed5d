"""RelayProcess: a relay that runs, or did a short while ago."""

from __future__ import annotations

import uuid
from typing import Final

from django.db import models

from tenants.models.reported import ReportedModel

NAME_LENGTH: Final = 200


class RelayProcess(ReportedModel):
    """One process that reports: a relay, or one of its workers. Two may have one name; each start is a row of its own.

    It is alive until ``expires_at``, which every report moves on by the database's clock. A relay that is stopped takes
    its row along; of one that was killed it stays until it is tidied away.
    """

    run = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=NAME_LENGTH)
    worker = models.CharField(max_length=20, blank=True, help_text="As in 1/4; blank without --workers.")
    site = models.CharField(max_length=50, blank=True)
    started_at = models.DateTimeField("up since")
    seen_at = models.DateTimeField("seen")
    expires_at = models.DateTimeField(db_index=True)
    flushed = models.BigIntegerField(default=0, help_text="Number of its last report, so that none counts twice.")

    class Meta:
        verbose_name = "relay"
        ordering = ["name", "worker", "pk"]

    def __str__(self) -> str:
        return f"{self.name} {self.worker}".strip()
