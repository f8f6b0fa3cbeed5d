"""What the registry holds that has to do with a question: backends, their configuration, their live sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from django.db.models import Sum

from relay.config import BackendConfig, Claims
from relay.config.claim_rules import LENIENT, ClaimError
from tenants.bridge.snapshot import UnreadableBackend, backend_key, load_backends
from tenants.models import Backend, RelaySession
from tenants.services.resolve.question import Question

MAX_BACKENDS: Final = 100
"""Backends that are looked at; a hostname that more of them claim is answered for these."""

MAX_SESSIONS: Final = 1_000


def concerned_backends(asked: Question, rows: Any) -> list[int]:
    """Return the primary keys of the backends that claim it or route it; some more than `MAX_BACKENDS` at most.

    Args:
        rows: queryset of the backends to choose from.
    """
    names = [asked.hostname, *filter(None, [asked.wildcard])]
    # One after the other: no index helps a choice between two tables.
    conditions: tuple[dict[str, Any], ...] = (
        {"hostname_links__hostname__name__in": names},
        {"port_claims__transport": asked.transport, "port_claims__public_port": asked.port},
        {"port_mappings__host_routes__pattern__in": names},
    )
    found: dict[int, None] = {}
    for condition in conditions:
        some = rows.filter(**condition).order_by("pk").values_list("pk", flat=True).distinct()
        found |= dict.fromkeys(some[: MAX_BACKENDS + 1])
    return list(found)


def relay_configs(
    rows: Iterable[Backend], site: str | None, using: str
) -> tuple[dict[int, BackendConfig], dict[str, str]]:
    """Return the backends as a relay gets them, by primary key, and why others cannot be read, by `backend_key`.

    Args:
        site: the relay's; None for each backend's own. A backend that its relay does not get is left out.
    """
    by_site: dict[str | None, list[int]] = defaultdict(list)
    for row in rows:
        by_site[(row.site or None) if site is None else site].append(row.pk)
    problems: dict[str, str] = {}

    def report(problem: UnreadableBackend) -> None:
        problems[problem.key] = problem.message

    found: dict[int, BackendConfig] = {}
    for of_site, keys in by_site.items():
        configs = load_backends(keys, of_site, using=using, report=report)
        found |= {key: config for key in keys if (config := configs[backend_key(key)]) is not None}
    return found, problems


def live_sessions(keys: Iterable[int], using: str) -> dict[int, list[RelaySession]]:
    """Return the live sessions, oldest first, by the backend's primary key."""
    found: dict[int, list[RelaySession]] = {key: [] for key in keys}
    rows: Any = RelaySession.objects.using(using).live().filter(backend__in=list(found)).select_related("relay")
    for row in rows.order_by("up_since")[:MAX_SESSIONS]:
        found[row.backend_id].append(row)
    return found


def tenant_streams(tenants: Iterable[int], using: str) -> dict[int, int]:
    """Return the live streams of each tenant in the relay that carries most of them."""
    found: dict[int, int] = {}
    if wanted := set(tenants):
        rows: Any = RelaySession.objects.using(using).live().filter(backend__tenant__in=wanted).order_by()
        for tenant, _, streams in rows.values_list("backend__tenant", "relay").annotate(n=Sum("streams")):
            found[tenant] = max(found.get(tenant, 0), streams)
    return found


def session_row_claims(session: RelaySession) -> Claims:
    """Return the claims of a live session; what is not as a relay writes it counts as none."""
    try:
        claims = Claims.from_json(session.claims, LENIENT)
    except (AttributeError, ClaimError):
        return Claims()
    return replace(claims, weight=max(1, claims.weight))
