"""Tenants' usage, from relays' reports; every question is one query through the gate."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Max, QuerySet, Sum
from django.db.models.functions import TruncDay
from django.utils import timezone

from tenants.models import BackendUsage, RelayProcess, RelaySession, Tenant
from tenants.services.access.permissions import sees_all

MOST: Final = 100
"""Backends, sessions or relays that are listed."""

FIELDS: Final = ("streams", "refused", "bytes_received", "bytes_sent")


def _sums() -> dict[str, Any]:
    return {name: Sum(name) for name in FIELDS} | {"peak_streams": Max("peak_streams")}


def _since(days: int) -> datetime:
    """Return the beginning of the first hour, or day, of which something is shown."""
    start = (timezone.now() - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
    return start.replace(hour=0) if days > 1 else start


def _of(user: Any, tenant: Tenant, days: int) -> QuerySet[Any]:
    rows: Any = BackendUsage.objects.for_user(user)
    # A backend that went to another tenant is that one's now, with its name.
    return rows.filter(tenant=tenant, backend__tenant=tenant, hour__gte=_since(days)).order_by()


def over_time(user: Any, tenant: Tenant, days: int) -> list[dict[str, Any]]:
    """Return the sums of each hour (of one day) or of each day (of more), the newest first; empty ones are left out."""
    rows = _of(user, tenant, days)
    if days > 1:
        return list(rows.annotate(at=TruncDay("hour")).values("at").annotate(**_sums()).order_by("-at"))
    return [{**row, "at": row.pop("hour")} for row in rows.values("hour").annotate(**_sums()).order_by("-hour")]


def by_backend(user: Any, tenant: Tenant, days: int) -> list[dict[str, Any]]:
    """Return the sums of each backend, those that carried the most first."""
    rows = _of(user, tenant, days).values("backend_id", "backend__name")
    found = rows.annotate(total=Sum("bytes_received") + Sum("bytes_sent"), **_sums())
    return list(found.order_by("-total", "backend__name")[:MOST])


def live_sessions(user: Any, tenant: Tenant) -> list[RelaySession]:
    """Return the sessions that relays hold for the tenant now."""
    rows: Any = RelaySession.objects.live().for_user(user).filter(backend__tenant=tenant)
    return list(rows.select_related("relay", "backend").order_by("backend__name", "node", "up_since")[: MOST + 1])


def relays(user: Any) -> list[Any]:
    """Return the relays that run, with the number of their sessions; operators and auditors see them."""
    rows: Any = RelayProcess.objects.for_user(user).filter(expires_at__gt=timezone.now())
    return list(rows.annotate(number=Count("sessions")).order_by("name", "worker", "pk")[: MOST + 1])


def busiest_tenants(user: Any) -> list[dict[str, Any]]:
    """Return the tenants that carried the most in this hour and the last; for operators and auditors."""
    if not sees_all(user):
        return []
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    rows: Any = BackendUsage.objects.for_user(user).filter(hour__gte=hour - timedelta(hours=1)).order_by()
    found = rows.values("tenant__slug").annotate(total=Sum("bytes_received") + Sum("bytes_sent"), **_sums())
    return list(found.order_by("-total", "tenant__slug")[:20])
