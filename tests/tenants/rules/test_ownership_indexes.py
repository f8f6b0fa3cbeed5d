"""The look-ups of tenants.rules.ownership use indexes: on PostgreSQL whatever its collation, and on SQLite."""

from __future__ import annotations

import unittest
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.test import tag
from django.test.utils import CaptureQueriesContext

from tenants.models import Domain, Hostname, HostnameGrant
from tenants.rules import ownership
from tests.support.registry import make_domain, make_tenant, postgres_database, sqlite_database

ROWS = 4_000
TABLES = ("tenants_hostname", "tenants_domain", "tenants_hostnamegrant")


def insert(alias: str, rows: list[Any]) -> None:
    """Insert rows of one model by Django's own means: the registry's check each proof with queries of its own."""
    for row in rows:
        row.normalise()
    QuerySet(type(rows[0]), using=alias).bulk_create(rows)


@tag("slow")
class IndexTests(unittest.TestCase):
    def fill(self, alias: str) -> tuple[Any, Any]:
        mine, theirs = make_tenant(alias, slug="mine"), make_tenant(alias, slug="theirs")
        names = [f"h{n}.d{n % 40}.example.com" for n in range(ROWS)]
        names += [f"*.w{n}.example.com" for n in range(200)]
        insert(alias, [Hostname(tenant=theirs, name=name) for name in names])
        given = [Domain(tenant=theirs, name=f"given.p{n}.example.net") for n in range(ROWS)]
        for row in given:
            row.prove(ownership.VerifiedBy.OPERATOR)
        insert(alias, given)
        grants = [HostnameGrant(tenant=theirs, name=f"g{n}.example.org", grantee_slug=f"slug-{n}") for n in range(ROWS)]
        insert(alias, grants)
        return mine, theirs

    def asked(self, alias: str) -> list[str]:
        """Return the statements of every kind of check."""
        mine, theirs = self.fill(alias)
        names = (
            "a.w7.example.com",
            "*.d7.example.com",
            "*.p7.example.net",
            "x.given.p7.example.net",
            "free.example.org",
        )
        rows = [Hostname(tenant=mine, name=name) for name in names]
        for row in rows:
            row.normalise()
        claim = make_domain(mine, "d7.example.com", None)
        connection = connections[alias]
        connection.force_debug_cursor = True
        with CaptureQueriesContext(connection) as captured:
            found = ownership.conflicts(rows, alias)
            ownership.uncovered(mine.pk, [row.name for row in rows], alias)
            blocked = ownership.blockers(claim, using=alias)
            ownership.names_granted_to([mine.pk], 5, alias)
        self.assertEqual([conflict.row.name for conflict in found], list(names[:4]))
        self.assertEqual({conflict.owner for conflict in found}, {theirs.pk})
        self.assertEqual(len(blocked), ownership.SHOWN)
        return [
            query["sql"]
            for query in captured.captured_queries
            if query["sql"].startswith("SELECT") and any(f'FROM "{table}"' in query["sql"] for table in TABLES)
        ]

    def test_postgresql(self) -> None:
        with postgres_database() as alias:
            statements = self.asked(alias)
            self.assertGreater(len(statements), 8)
            with connections[alias].cursor() as cursor:
                cursor.execute("ANALYZE")
                for statement in statements:
                    cursor.execute(f"EXPLAIN {statement}")
                    plan = "\n".join(row[0] for row in cursor.fetchall())
                    with self.subTest(statement[:300]):
                        self.assertNotIn("Seq Scan", plan)
                cursor.execute(
                    "EXPLAIN SELECT id FROM tenants_hostname WHERE reversed_name::text LIKE 'com.example.d7.%'"
                )
                self.assertIn("hostname_under", "\n".join(row[0] for row in cursor.fetchall()))

    def test_postgresql_with_a_collation_that_sorts_otherwise(self) -> None:
        """Dots and hyphens count for little in the orders of languages; LIKE's index does not ask them."""
        with postgres_database() as alias:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'")
                if cursor.fetchone() is None:
                    self.skipTest("this PostgreSQL has no ICU collations")
                cursor.execute(
                    'ALTER TABLE tenants_hostname ALTER COLUMN reversed_name TYPE varchar(256) COLLATE "en-x-icu"'
                )
            [hit, *_] = self.fill(alias)
            for name in ("d7-x.example.com", "d7x.example.com", "a.d7.example.com.evil.net"):
                Hostname.objects.using(alias).create(tenant=hit, name=name)
            found = Hostname.objects.using(alias).filter(reversed_name__under="com.example.d7.")
            self.assertEqual(found.count(), ROWS // 40)
            with connections[alias].cursor() as cursor:
                cursor.execute("ANALYZE")
            self.assertIn("hostname_under", found.explain())

    def test_sqlite(self) -> None:
        with sqlite_database() as alias:
            statements = self.asked(alias)
            with connections[alias].cursor() as cursor:
                cursor.execute("ANALYZE")
                for statement in statements:
                    cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
                    plan = "\n".join(str(row[3]) for row in cursor.fetchall())
                    with self.subTest(statement[:300]):
                        self.assertNotRegex(plan, r"SCAN tenants_\w+(?! USING)")
