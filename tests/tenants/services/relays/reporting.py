"""Rows as relays report them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from tenants.models import Backend, RelayProcess, RelaySession, RelayTarget, RelayUplink


def alive(name: str = "relay-1", seconds: float = 60) -> RelayProcess:
    now = timezone.now()
    made, _ = RelayProcess.objects.get_or_create(
        name=name, defaults={"started_at": now, "seen_at": now, "expires_at": now + timedelta(seconds=seconds)}
    )
    return made


def up(backend: Backend, node: Any, relay: RelayProcess | None = None, state: str = "up") -> RelaySession:
    return RelaySession.objects.create(
        relay=relay or alive(),
        backend=backend,
        node=node.address,
        state=state,
        dialect="token",
        up_since=timezone.now(),
    )


def failed(backend: Backend, node: Any, relay: RelayProcess | None = None, **fields: Any) -> RelayUplink:
    given = {"state": "waiting", "problem": "nothing listens there", "since": timezone.now(), "attempts": 3} | fields
    return RelayUplink.objects.create(relay=relay or alive(), backend=backend, node=node.address, **given)


def unreached(backend: Backend, relay: RelayProcess | None = None, **fields: Any) -> RelayTarget:
    given = {"target": "db:1", "problem": "timed out", "since": timezone.now()} | fields
    return RelayTarget.objects.create(relay=relay or alive(), backend=backend, **given)
