"""`/healthz`."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from django.db import connections
from django.test import RequestFactory, TestCase

from nexusadmin.web.health import healthz
from tests.support.registry import database, sqlite_settings


class HealthTests(TestCase):
    def test_health(self) -> None:
        response = self.client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertIn("no-store", response["Cache-Control"])


class OtherDatabaseTests(unittest.TestCase):
    def test_a_database_without_its_tables_is_no_registry(self) -> None:
        """As SQLite makes one, where its file is gone."""
        with (
            tempfile.TemporaryDirectory() as folder,
            database(sqlite_settings(Path(folder) / "new.sqlite3"), migrate=False) as alias,
            mock.patch("nexusadmin.web.health.connection", connections[alias]),
        ):
            response = healthz(RequestFactory().get("/healthz"))
        self.assertEqual(response.status_code, 503)
        self.assertEqual(json.loads(response.content), {"status": "error", "database": "unreachable"})
