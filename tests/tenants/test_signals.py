"""Tests of tenants.signals: whole dumps."""

from __future__ import annotations

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management import call_command

from tenants.models import AuditEntry, Backend
from tests.support.registry import make_served_backend, postgres_database, sqlite_database


class DumpTest(unittest.TestCase):
    """Into real databases, from one that is in a file."""

    def check_loads(self, alias: str) -> None:
        with sqlite_database() as source, TemporaryDirectory() as folder:
            make_served_backend(using=source, name="edge")
            entries = list(AuditEntry.objects.using(source).order_by("pk").values_list("pk", "object_text"))
            self.assertGreater(len(entries), 5)
            path = Path(folder) / "dump.json"
            left_out = ["contenttypes", "auth.permission"]
            call_command("dumpdata", database=source, output=str(path), verbosity=0, exclude=left_out)
            call_command("loaddata", str(path), database=alias, verbosity=0)
        self.assertEqual(Backend.objects.using(alias).get().name, "edge")
        found = dict(AuditEntry.objects.using(alias).values_list("pk", "object_text"))
        self.assertEqual([(key, found[key]) for key, _ in entries], entries)
        new = AuditEntry.objects.using(alias).create(action="looked", actor_name="somebody")
        self.assertGreater(new.pk, max(found))

    def test_a_dump_of_everything_loads_into_an_empty_database(self) -> None:
        with sqlite_database() as alias:
            self.check_loads(alias)

    def test_a_dump_of_everything_loads_into_postgresql(self) -> None:
        with postgres_database() as alias:
            self.check_loads(alias)
