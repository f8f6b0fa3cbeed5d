"""Forgets what was taken back and has expired by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.utils import timezone

from tenants.models.revocation import Revocation

MARGIN: Final = timedelta(days=1)
"""More than clocks differ."""


def forget_expired() -> str:
    """Delete the revocations of tokens that are refused by themselves by now; return how many, in words."""
    rows = Revocation.objects.filter(expires_at__lt=timezone.now() - MARGIN)
    number = rows.count()
    if number:
        rows.delete()
    return f"{number} revocations of expired tokens forgotten" if number else ""
