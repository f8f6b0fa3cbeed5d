"""Limits: what the streams of one backend, or of one tenant, may use together."""

from __future__ import annotations

from typing import Final

from django.db import models

LIMIT_FIELDS: Final = ("max_streams", "streams_per_second", "upload_rate", "download_rate")
"""Fields of `LimitedModel` and of `relay.config.Limits` alike."""


class LimitedModel(models.Model):
    """A row whose streams are limited together; 0 for no limit."""

    max_streams = models.PositiveIntegerField(
        "live streams", default=0, help_text="At once; 0 for no limit. What is above is refused with a reason."
    )
    streams_per_second = models.PositiveIntegerField(
        "new streams a second", default=0, help_text="With a burst of as many; 0 for no limit."
    )
    upload_rate = models.PositiveBigIntegerField(
        "upload", default=0, help_text="Bytes a second from users to targets; 0 for no limit."
    )
    download_rate = models.PositiveBigIntegerField(
        "download", default=0, help_text="Bytes a second from targets to users; 0 for no limit."
    )

    class Meta:
        abstract = True
