"""Tests of tenants.services.relays.reports: many rows in few queries, and old ones removed."""

from __future__ import annotations

import unittest
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections
from django.test.utils import CaptureQueriesContext

from tenants.models import Backend, BackendUsage, CredentialUse, RelayProcess, RelaySession, RelayTarget, RelayUplink
from tenants.services.relays import reports
from tenants.services.relays.reports import Carried, Process, UsageBatch
from tests.support.registry import (
    make_backend,
    make_tenant,
    postgres_database,
    sqlite_database,
)


class WriteTests(unittest.TestCase):
    """What the services do with many rows, on both databases."""

    def process(self, **changes: Any) -> Process:
        given = {"name": "n", "worker": "", "site": "", "started_at": datetime.now(UTC), "lives": 60.0}
        return Process(run=uuid.uuid4(), **given | changes)

    def check(self, alias: str) -> None:
        tenant = make_tenant(alias)
        backends = Backend.objects.using(alias).bulk_create([Backend(tenant=tenant, name=f"b{i}") for i in range(500)])
        hour = datetime(2026, 1, 1, 5, tzinfo=UTC)
        process = self.process()
        batch = UsageBatch(1, {(backend.pk, hour): Carried(1, 2, 3, 4, 5) for backend in backends})
        with CaptureQueriesContext(connections[alias]) as queries:
            reports.report_process(process, alias, batch)
        self.assertLess(len(queries), 10)
        reports.report_process(process, alias, batch)  # again: nothing
        other = self.process()
        missing = {(987_654_321, hour): Carried(1)}
        more = {(backend.pk, hour): Carried(1, 1, 1, 1, 4) for backend in backends}
        reports.report_process(other, alias, UsageBatch(1, more | missing))
        rows = BackendUsage.objects.using(alias).values_list(*Carried._fields, "tenant_id").distinct()
        self.assertEqual(list(rows.order_by()), [(2, 3, 4, 5, 5, tenant.pk)])
        self.assertEqual(BackendUsage.objects.using(alias).count(), 500)
        with CaptureQueriesContext(connections[alias]) as queries:
            backends[0].delete()
        self.assertFalse(any("SELECT" in q["sql"] and "backendusage" in q["sql"] for q in queries), "unread")
        self.assertEqual(BackendUsage.objects.using(alias).count(), 499)
        tenant.delete()
        self.assertEqual(BackendUsage.objects.using(alias).count(), 0)

    def test_on_sqlite(self) -> None:
        with sqlite_database() as alias:
            self.check(alias)

    def test_on_postgresql(self) -> None:
        with postgres_database() as alias:
            self.check(alias)


class TidyTests(unittest.TestCase):
    def test_what_killed_relays_left_goes_and_old_usage_too(self) -> None:
        with sqlite_database() as alias:
            backend = make_backend(using=alias)
            now = datetime.now(UTC)
            for age in (timedelta(0), timedelta(minutes=11), timedelta(days=2)):
                relay = RelayProcess.objects.using(alias).create(
                    name=str(age), started_at=now, seen_at=now - age, expires_at=now - age + timedelta(seconds=5)
                )
                RelaySession.objects.using(alias).create(
                    relay=relay, backend=backend, node="wss://n", state="up", dialect="token", up_since=now
                )
                for model, fields in ((RelayUplink, {"node": "wss://n"}), (RelayTarget, {"target": "t:1"})):
                    model.objects.using(alias).create(relay=relay, backend=backend, since=now, **fields)
            self.assertEqual(reports.tidy_relays(alias), "2 sessions and 1 relays of the past removed")
            self.assertEqual(RelayProcess.objects.using(alias).count(), 2)
            for model in (RelaySession, RelayUplink, RelayTarget):
                self.assertEqual(model.objects.using(alias).count(), 1)
            for days, owner in ((0, backend.pk), (89, backend.pk), (91, backend.pk), (1, 987_654)):
                hour = (now - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
                BackendUsage.objects.using(alias).create(tenant_id=backend.tenant_id, backend_id=owner, hour=hour)
            CredentialUse.objects.using(alias).create(backend_id=987_654, used_at=now, relay="r", node="n")
            said = reports.prune_usage(alias)
            self.assertEqual(said, "1 hours of usage removed, and 2 rows of deleted backends")
            self.assertEqual(BackendUsage.objects.using(alias).count(), 2)
            self.assertEqual((reports.tidy_relays(alias), reports.prune_usage(alias)), ("", ""))
