"""Tests of tenants.services.resolve.candidate: live sessions count, of a backend that is switched off too."""

from __future__ import annotations

from tenants.models import Backend
from tests.tenants.services.resolve.asking import REFUSES, ResolveTestCase, ask, report


class CandidateTests(ResolveTestCase):
    def test_sessions_of_what_is_switched_off(self) -> None:
        report(self.backend, hostnames=["app.example.com"], state="draining")
        Backend.objects.update(enabled=False)
        (found,) = ask("app.example.com").backends
        self.assertEqual((found.verdict, found.why), (REFUSES, "It is disabled. Its sessions are draining."))
