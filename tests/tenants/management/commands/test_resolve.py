"""Tests of the command resolve as an operator runs it."""

from __future__ import annotations

import json
from io import StringIO

from django.core.management import CommandError, call_command

from tests.tenants.services.resolve.asking import SERVES, ResolveTestCase


class ResolveCommandTests(ResolveTestCase):
    def test_the_command(self) -> None:
        out = StringIO()
        call_command("resolve", "app.example.com", "443", stdout=out)
        for part in (
            "would be served by acme/edge",
            "acme/edge: would serve",
            "would get streams",
            "100% of the new ones",
            "rule app.example.com to localhost:9443",
        ):
            self.assertIn(part, out.getvalue())
        out = StringIO()
        call_command("resolve", "app.example.com", "443", "--json", "--client-ip", "2001:db8::1", stdout=out)
        found = json.loads(out.getvalue())
        self.assertEqual((found["client"], found["backends"][0]["verdict"]), ("2001:db8::1", SERVES))
        with self.assertRaises(SystemExit), self.assertNoLogs():
            call_command("resolve", "nobody.example.com", "443", stdout=StringIO())
        with self.assertRaisesRegex(CommandError, "out of range"):
            call_command("resolve", "app.example.com", "70000")
