"""Tests of the command audit as an operator runs it."""

from __future__ import annotations

import json
from io import StringIO

from django.core.management import CommandError, call_command

from tenants.services.audit import journal
from tests.tenants.admin.pages import AdminTestCase


class AuditCommandTests(AdminTestCase):
    def call(self, *arguments: str) -> str:
        out = StringIO()
        call_command("audit", *arguments, stdout=out)
        return out.getvalue()

    def test_the_command(self) -> None:
        with journal.acting(user=self.editor, address="192.0.2.7"):
            self.backend.weight = 4
            self.backend.save()
        text = self.call("--tenant", "acme", "--limit", "1")
        self.assertIn("[acme] editor (command from 192.0.2.7) updated backend acme/edge: weight: 1 → 4", text)
        self.assertEqual(len(text.splitlines()), 1)
        self.assertEqual(len(json.loads(self.call("--who", "editor", "--format", "json"))), 1)
        self.assertIn("tenants.backend", self.call("--tenant", "acme", "--model", "tenants.backend", "--format", "csv"))
        self.assertIn("Nothing", self.call("--since", "2099-01-01"))
        self.assertIn("Nothing", self.call("--until", "1999-01-01T12:00"))
        for arguments in (("--since", "yesterday"), ("--since", "2026-13-01"), ("--limit", "0")):
            with self.assertRaises(CommandError):
                self.call(*arguments)
