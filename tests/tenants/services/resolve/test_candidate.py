"""Tests of tenants.services.resolve.candidate: live sessions count, of a backend that is switched off too."""

from __future__ import annotations

from tenants.models import Backend
from tests.tenants.services.resolve.asking import SERVES, ResolveTestCase, ask, report


class CandidateTests(ResolveTestCase):
    def test_sessions_of_what_is_switched_off(self) -> None:
        report(self.backend, hostnames=["app.example.com"], state="draining")
        Backend.objects.update(enabled=False)
        (found,) = ask("app.example.com").backends
        self.assertIs(found.verdict, SERVES)
        self.assertEqual(found.why, "It is disabled. Its sessions serve until a quiet instant.")
