"""Tests of the command export_config as an operator runs it."""

from __future__ import annotations

import os

from django.core.management import CommandError

from tenants.models import Backend
from tests.tenants.management.commands.running import CONFIGS, CommandTestCase


class ExportCommandTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.run_command("import_config", CONFIGS / "attested.yaml")

    def test_without_secrets(self) -> None:
        out, err = self.run_command("export_config")
        self.assertIn("name: with-secret", out)
        self.assertNotRegex(out, "not a real secret|--backend|authorizer.example")
        self.assertEqual(err, "")
        with self.assertRaisesRegex(CommandError, "has no credential"):
            self.run_command("import_config", self.file(out))

    def test_with_secrets_into_a_file(self) -> None:
        path = self.folder / "out.yaml"
        path.write_text("old")
        out, _ = self.run_command("export_config", "--include-secrets", "--output", path)
        self.assertEqual(out, "")
        self.assertIn("not a real secret", path.read_text())
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.folder), ["out.yaml"])
        out, _ = self.run_command("import_config", path)
        self.assertIn("Nothing changed", out)

    def test_a_disabled_backend_is_named(self) -> None:
        Backend.objects.filter(name="with-secret").update(enabled=False)
        out, err = self.run_command("export_config", "--include-secrets")
        self.assertNotIn("name: with-secret\n", out)
        self.assertIn("warning: with-secret: is disabled and left out", err)

    def test_errors(self) -> None:
        with self.assertRaisesRegex(CommandError, "cannot be written"):
            self.run_command("export_config", "--output", self.folder / "none" / "out.yaml")
        with self.assertRaisesRegex(CommandError, "no tenant"):
            self.run_command("export_config", "--tenant", "nobody")
