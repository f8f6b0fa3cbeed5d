"""Tests of inserting many rows in the database's own way: it stores what ``bulk_create()`` of few rows does."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from tenants.changes import bulk_insert, generations
from tenants.models import (
    AuditEntry,
    Backend,
    Change,
    ChangeKind,
    Credential,
    CredentialKind,
    Hostname,
    HostRoute,
    PortMapping,
)
from tests.support.registry import make_tenant

MANY = bulk_insert.MANY


class InsertTests(TestCase):
    def setUp(self) -> None:
        self.tenant = make_tenant()

    def backends(self, count: int = MANY) -> list[Backend]:
        return Backend.objects.bulk_create(
            Backend(
                tenant=self.tenant, name=f"backend-{number}", outbound_allowed=True, allowed_outbound_ports=[number + 1]
            )
            for number in range(count)
        )

    def test_rows_are_stored_as_few_are(self) -> None:
        with mock.patch.object(bulk_insert, "insert", wraps=bulk_insert.insert) as insert:
            few, many = self.rows("few", 3), self.rows("many", MANY)
        self.assertTrue(insert.called)
        for model, one in few.items():
            with self.subTest(model=model.__name__):
                other = many[model]
                self.assertEqual(self.stored(model, one), self.stored(model, other))

    def rows(self, prefix: str, count: int) -> dict[Any, Any]:
        """Add rows of several models, and return the first of each."""
        backends = [
            Backend(tenant=self.tenant, name=f"{prefix}-{number}", outbound_allowed=True, allowed_outbound_ports=[25])
            for number in range(count)
        ]
        mappings = [PortMapping(backend=each, public_port=443, default_target="LOCALHOST:80") for each in backends]
        routes = [HostRoute(port_mapping=each, pattern="A.example.com", target="unix:/run/a\\b") for each in mappings]
        credentials = [
            Credential(backend=each, kind=CredentialKind.HMAC_SECRET, secret="a \\secret\n of ours")
            for each in backends
        ]
        hostnames = [Hostname(tenant=self.tenant, name=f"{prefix}-{n}.example.com") for n in range(count)]
        found: dict[Any, Any] = {}
        for rows in (backends, mappings, routes, credentials, hostnames):
            model = type(rows[0])
            created: list[Any] = model._default_manager.bulk_create(rows)
            self.assertEqual(len({row.pk for row in created}), count)
            self.assertFalse(any(row._state.adding or row._state.db != "default" for row in created))
            found[model] = model._default_manager.get(pk=created[0].pk)
            self.assertEqual(found[model].updated_at, created[0].updated_at)
        return found

    def stored(self, model: Any, row: Any) -> dict[str, Any]:
        own = {"id", "name", "backend_id", "port_mapping_id", "created_at", "updated_at", "secret_set_at"}
        names = [field.attname for field in model._meta.concrete_fields if field.attname not in own]
        return {name: getattr(row, name) for name in names if name not in ("parent", "reversed_name")}

    def test_keys_are_never_used_twice(self) -> None:
        first = self.backends()
        last = Backend.objects.create(tenant=self.tenant, name="one more")
        self.assertGreater(last.pk, max(row.pk for row in first))
        key = last.pk
        last.delete()
        second = Backend.objects.bulk_create(Backend(tenant=self.tenant, name=f"b{n}") for n in range(MANY))
        self.assertGreater(min(row.pk for row in second), key)

    def test_rows_are_numbered_and_on_record(self) -> None:
        before = generations.current()
        rows = self.backends()
        changes = Change.objects.filter(generation__gt=before, kind=ChangeKind.BACKEND, action="created")
        self.assertEqual(set(changes.values_list("object_id", flat=True)), {row.pk for row in rows})
        entries = AuditEntry.objects.filter(model="tenants.backend", action="created")
        self.assertEqual(set(entries.values_list("object_id", flat=True)), {str(row.pk) for row in rows})

    def test_the_number_of_queries_does_not_grow(self) -> None:
        def count(prefix: str, number: int) -> int:
            rows = [Backend(tenant=self.tenant, name=f"{prefix}{n}") for n in range(number)]
            with CaptureQueriesContext(connection) as queries:
                Backend.objects.bulk_create(rows)
            return len(queries)

        count("a", MANY)
        self.assertEqual(count("b", MANY), count("c", 4 * MANY))

    def test_a_refused_row_leaves_nothing(self) -> None:
        rows = [Backend(tenant=self.tenant, name=f"b{n % (MANY - 1)}") for n in range(MANY)]
        with self.assertRaises(IntegrityError), transaction.atomic():
            Backend.objects.bulk_create(rows)
        self.assertFalse(Backend.objects.exists())
        self.assertTrue(all(row.pk is None and row._state.adding for row in rows))

    def test_a_parent_that_is_saved_late_is_checked_too(self) -> None:
        self.tenant.target_networks = "192.0.2.0/24"
        self.tenant.save()
        for count in (1, MANY):
            with self.subTest(count=count):
                mappings = [
                    PortMapping(backend=each, public_port=443)
                    for each in Backend.objects.bulk_create(
                        Backend(tenant=self.tenant, name=f"{count}-{n}") for n in range(count)
                    )
                ]
                routes = [
                    HostRoute(port_mapping=each, pattern="a.example.com", target="198.51.100.1:1") for each in mappings
                ]
                PortMapping.objects.bulk_create(mappings)
                with self.assertRaises(ValidationError):
                    HostRoute.objects.bulk_create(routes)

    def test_other_rows_go_djangos_way(self) -> None:
        rows = [Backend(tenant=self.tenant, name=f"b{n}") for n in range(MANY)]
        self.assertTrue(bulk_insert.fits(rows, "default"))
        self.assertFalse(bulk_insert.fits(rows[1:], "default"))
        rows[3].weight = Value(2) + F("pk")  # type: ignore[assignment]
        self.assertFalse(bulk_insert.fits(rows, "default"))
        rows[3].weight, rows[3].pk = 1, 7
        self.assertFalse(bulk_insert.fits(rows, "default"))
