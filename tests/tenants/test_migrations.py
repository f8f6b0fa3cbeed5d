"""Tests of what migrations do with rows that are there."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from tests.support.registry import database, sqlite_settings


def state_before(executor: MigrationExecutor, topic: str) -> tuple[Any, Any]:
    """Return the key of the migration with this topic, and that of what it depends on in the registry."""
    [key] = [key for key in executor.loader.graph.nodes if key[0] == "tenants" and key[1].endswith(f"_{topic}")]
    migration = executor.loader.get_migration(*key)
    [before] = [dependency for dependency in migration.dependencies if dependency[0] == "tenants"]
    return key, before


class TargetPoliciesTests(unittest.TestCase):
    def test_existing_tenants_are_bounded_by_nothing_and_new_ones_are(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with database(sqlite_settings(Path(folder) / "old.sqlite3"), migrate=False) as alias:
                key, before = state_before(MigrationExecutor(connections[alias]), "target_policies")
                executor = MigrationExecutor(connections[alias])
                old = executor.migrate([before])
                old.apps.get_model("tenants", "Tenant").objects.using(alias).create(slug="old")
                executor = MigrationExecutor(connections[alias])
                tenants = executor.migrate([key]).apps.get_model("tenants", "Tenant").objects.using(alias)
                tenants.create(slug="new")
                found = tenants.order_by("slug").values_list("slug", "target_networks", "target_ports", "target_unix")
                self.assertEqual(list(found), [("new", "", "", False), ("old", "0.0.0.0/0, ::/0", "", True)])
