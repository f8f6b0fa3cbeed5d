"""Relays' reports to the registry, written and later removed. They take no generation and wait for no lock of one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models.functions import Now
from django.utils import timezone

from tenants.changes.querysets import chunks
from tenants.models.backend import Backend
from tenants.models.backend_usage import BackendUsage
from tenants.models.credential_use import CredentialUse
from tenants.models.relay_process import RelayProcess
from tenants.models.relay_session import RelaySession
from tenants.models.relay_trouble import RelayTarget, RelayUplink
from tenants.models.reported import ReportedModel

BATCH: Final = 500
"""Rows in one transaction, so that no other writer waits for a report."""

SESSIONS_KEPT: Final = timedelta(minutes=10)
"""For how long the sessions of a relay are kept that is no longer heard of."""

PROCESSES_KEPT: Final = timedelta(days=1)
"""The same for the relay itself: until then it may come back and go on with its count."""

LATE: Final = timedelta(days=2)
"""How long after a backend's deletion something may still be written of it."""

SESSION_FIELDS: Final = (
    "relay", "backend", "node", "state", "dialect", "up_since", "streams", "claims", "expires_at", "fingerprint",
)  # fmt: skip


TROUBLE_FIELDS: Final[Mapping[type[ReportedModel], tuple[str, ...]]] = {
    RelayUplink: ("relay", "backend", "node", "state", "problem", "since", "attempts", "next_try"),
    RelayTarget: ("relay", "backend", "target", "problem", "since", "all_fail"),
}

SMALL_FIELDS: Final = ("state", "streams")
"""What changes of a session while it lives."""


class Carried(NamedTuple):
    """Traffic of a backend, to be added to what other reports say of the same hour."""

    streams: int = 0
    refused: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    peak_streams: int = 0

    def plus(self, other: Carried) -> Carried:
        """Return both together."""
        return Carried(
            self.streams + other.streams,
            self.refused + other.refused,
            self.bytes_received + other.bytes_received,
            self.bytes_sent + other.bytes_sent,
            max(self.peak_streams, other.peak_streams),
        )


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """Some of what was carried. It is written once, however often it is tried.

    Attributes:
        number: of the relay process's batches, from 1.
        carried: by the backend's primary key and the hour; at most `BATCH`.
    """

    number: int
    carried: Mapping[tuple[int, datetime], Carried]


@dataclass(frozen=True, slots=True)
class Process:
    """The relay process that reports.

    Attributes:
        lives: seconds that it counts as alive after a report.
    """

    run: uuid.UUID
    name: str
    worker: str
    site: str
    started_at: datetime
    lives: float


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """A row of a model that relays report, with the model's own fields."""

    id: uuid.UUID
    backend: int
    fields: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Use:
    """A credential that a node took."""

    backend: int
    used_at: datetime
    node: str
    fingerprint: str


def report_process(process: Process, using: str, batch: UsageBatch | None = None) -> tuple[int, bool]:
    """Record that the relay is alive and, in the same transaction, what it carried, unless that is already written.

    Returns its primary key, and whether it is new to the registry (which then knows none of its sessions).
    """
    rows: Any = RelayProcess.objects.using(using).filter(run=process.run)
    alive = {"seen_at": Now(), "expires_at": Now() + timedelta(seconds=process.lives)}
    with transaction.atomic(using=using):
        # The row's lock comes first: a second attempt of this very report waits for the first one's outcome.
        known = rows.update(**alive)
        key, flushed = rows.values_list("pk", "flushed").get() if known else (None, 0)
        if key is None:
            key = (
                RelayProcess.objects.using(using)
                .create(
                    run=process.run,
                    name=process.name,
                    worker=process.worker,
                    site=process.site,
                    started_at=process.started_at,
                    **alive,
                )
                .pk
            )
        if batch is not None and flushed < batch.number:
            _add(batch.carried, using)
            rows.update(flushed=batch.number)
    return key, not known


def _add(carried: Mapping[tuple[int, datetime], Carried], using: str) -> None:
    """Add to the hours; of backends that are gone nothing is kept."""
    tenants = _tenants({backend for backend, _ in carried}, using)
    # In one order everywhere, so that two relays that report on the same backends never wait for each other in turn.
    rows = [(backend, hour) for backend, hour in sorted(carried) if backend in tenants]
    if not rows:
        return
    connection = connections[using]
    table = connection.ops.quote_name(BackendUsage._meta.db_table)
    columns = ("tenant_id", "backend_id", "hour", *Carried._fields)
    added = ", ".join(
        f"{name} = {table}.{name} + EXCLUDED.{name}" for name in Carried._fields if name != "peak_streams"
    )
    place = f"({', '.join(['%s'] * len(columns))})"
    values: list[Any] = []
    for backend, hour in rows:
        at = connection.ops.adapt_datetimefield_value(hour)
        values += [tenants[backend], backend, at, *carried[backend, hour]]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([place] * len(rows))} "  # noqa: S608 - names
            f"ON CONFLICT (backend_id, hour) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, {added}, peak_streams = "
            f"CASE WHEN EXCLUDED.peak_streams > {table}.peak_streams THEN EXCLUDED.peak_streams "
            f"ELSE {table}.peak_streams END",
            values,
        )


def report_sessions(relay: int, sessions: Sequence[ReportedRow], using: str) -> None:
    """Write sessions down that are new or have changed; at most `BATCH`."""
    _report(RelaySession, relay, sessions, SESSION_FIELDS, using)


def report_rows(model: type[ReportedModel], relay: int, rows: Sequence[ReportedRow], using: str) -> None:
    """Write troubles down that are new or have changed; at most `BATCH`.

    Args:
        model: one of `TROUBLE_FIELDS`.
    """
    _report(model, relay, rows, TROUBLE_FIELDS[model], using)


def _report(model: Any, relay: int, rows: Sequence[ReportedRow], fields: Sequence[str], using: str) -> None:
    with transaction.atomic(using=using):
        tenants = _tenants({row.backend for row in rows}, using)
        found = [
            model(id=row.id, relay_id=relay, backend_id=row.backend, **row.fields)
            for row in rows
            if row.backend in tenants
        ]
        model.objects.using(using).bulk_create(found, update_conflicts=True, unique_fields=["id"], update_fields=fields)


def report_streams(sessions: Sequence[ReportedRow], using: str) -> None:
    """Write down what changes all the time of sessions that are written already; at most `BATCH`."""
    rows = [
        RelaySession(id=session.id, **{name: session.fields[name] for name in SMALL_FIELDS})
        for session in sorted(sessions, key=lambda session: session.id)
    ]
    RelaySession.objects.using(using).bulk_update(rows, SMALL_FIELDS)


def forget_rows(
    model: Any,
    relay: int,
    using: str,
    *,
    gone: Iterable[uuid.UUID] = (),
    but: set[uuid.UUID] | None = None,
) -> None:
    """Remove rows that a relay reported.

    Args:
        model: `RelaySession`, or one of `TROUBLE_FIELDS`.
        gone: these.
        but: all except these; None for no more than ``gone``.
    """
    rows: Any = model.objects.using(using).filter(relay_id=relay)
    keys = set(gone) if but is None else set(rows.order_by().values_list("pk", flat=True)) - but
    for part in chunks(sorted(keys)):
        rows.filter(pk__in=part)._raw_delete(using)


def report_uses(relay: str, uses: Sequence[Use], using: str) -> None:
    """Write down which credentials were taken; at most `BATCH`, the last of a backend counts."""
    latest = {use.backend: use for use in sorted(uses, key=lambda use: use.used_at)}
    with transaction.atomic(using=using):
        tenants = _tenants(latest, using)
        rows = [
            CredentialUse(
                backend_id=backend, used_at=use.used_at, relay=relay, node=use.node, fingerprint=use.fingerprint
            )
            for backend, use in sorted(latest.items())
            if backend in tenants
        ]
        CredentialUse.objects.using(using).bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["backend"],
            update_fields=["used_at", "relay", "node", "fingerprint"],
        )


def remove_process(run: uuid.UUID, using: str) -> None:
    """Take a relay off that was stopped, and its sessions."""
    RelayProcess.objects.using(using).filter(run=run).delete()


def _tenants(backends: Iterable[int], using: str) -> dict[int, int]:
    """Return the tenants of those of the backends that exist."""
    found: dict[int, int] = {}
    for part in chunks(sorted(backends)):
        rows: Any = Backend.objects.using(using).filter(pk__in=part).order_by()
        found |= dict(rows.values_list("pk", "tenant_id"))
    return found


# -- jobs


def tidy_relays(using: str = DEFAULT_DB_ALIAS) -> str:
    """Remove what relays left behind that were killed."""
    now = timezone.now()
    dead: Any = RelaySession.objects.using(using).filter(relay__expires_at__lt=now - SESSIONS_KEPT)
    sessions = _delete_in_parts(dead, using)
    for model in (RelayUplink, RelayTarget):
        _delete_in_parts(model.objects.using(using).filter(relay__expires_at__lt=now - SESSIONS_KEPT), using)
    processes, _ = RelayProcess.objects.using(using).filter(expires_at__lt=now - PROCESSES_KEPT).delete()
    return f"{sessions} sessions and {processes} relays of the past removed" if sessions or processes else ""


def prune_usage(using: str = DEFAULT_DB_ALIAS) -> str:
    """Remove usage that is older than settings.USAGE_DAYS, and rows of deleted backends."""
    now = timezone.now()
    rows: Any = BackendUsage.objects.using(using)
    uses: Any = CredentialUse.objects.using(using)
    there = Backend.objects.using(using).filter(pk=models.OuterRef("backend_id"))
    old = _delete_in_parts(rows.filter(hour__lt=now - timedelta(days=settings.USAGE_DAYS)), using)
    lost = _delete_in_parts(rows.filter(~models.Exists(there), hour__gte=now - LATE), using)
    lost += _delete_in_parts(uses.filter(~models.Exists(there)), using)
    return f"{old} hours of usage removed, and {lost} rows of deleted backends" if old or lost else ""


def _delete_in_parts(rows: Any, using: str) -> int:
    """Delete the rows in many small transactions; return how many there were."""
    count = 0
    while keys := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        count += rows.model.objects.using(using).filter(pk__in=keys)._raw_delete(using)
    return count
