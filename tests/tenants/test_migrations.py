"""Tests of what the migrations make of a database beyond the models' tables."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from contextlib import AbstractContextManager

from django.core.management import call_command
from django.db import DatabaseError, connections

from tenants.changes.audit_entry import AuditEntry
from tenants.models import Tenant
from tests.support.registry import postgres_database, sqlite_database

DATABASES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_database,
    "PostgreSQL": postgres_database,
}


def change_an_entry(alias: str) -> None:
    """Change the newest audit entry behind the models' back."""
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE tenants_auditentry SET actor_name = 'somebody else'")


class MigrationTests(unittest.TestCase):
    def test_new_tenants_are_bounded(self) -> None:
        with sqlite_database() as alias:
            tenant = Tenant.objects.using(alias).create(slug="new")
            tenant.refresh_from_db()
            self.assertEqual((tenant.target_networks, tenant.target_ports, tenant.target_unix), ("", "", False))

    def test_the_database_refuses_to_change_an_audit_entry(self) -> None:
        for name, database in DATABASES.items():
            with self.subTest(database=name), database() as alias:
                Tenant.objects.using(alias).create(slug="recorded")
                entries = AuditEntry.objects.using(alias)
                before = list(entries.values_list("pk", "actor_name"))
                self.assertTrue(before)
                with self.assertRaisesRegex(DatabaseError, "only ever added to"):
                    change_an_entry(alias)
                self.assertEqual(list(entries.values_list("pk", "actor_name")), before)

    def test_the_refusal_can_be_taken_back_and_put_again(self) -> None:
        for name, database in DATABASES.items():
            with self.subTest(database=name), database() as alias:
                Tenant.objects.using(alias).create(slug="recorded")
                call_command("migrate", "tenants", "0001", database=alias, verbosity=0)
                change_an_entry(alias)
                self.assertTrue(AuditEntry.objects.using(alias).filter(actor_name="somebody else").exists())
                call_command("migrate", "tenants", database=alias, verbosity=0)
                with self.assertRaisesRegex(DatabaseError, "only ever added to"):
                    change_an_entry(alias)
