"""Sessions as relays report them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from tenants.models import RelayProcess


def session_fields(node: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a live session at a node, of a relay that is alive."""
    now = timezone.now()
    lives = {"started_at": now, "seen_at": now, "expires_at": now + timedelta(days=1)}
    relay, _ = RelayProcess.objects.get_or_create(name="r", defaults=lives)
    return {"relay": relay, "node": node, "state": "up", "dialect": "token", "up_since": now, **fields}
