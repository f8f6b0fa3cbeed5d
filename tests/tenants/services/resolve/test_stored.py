"""Tests of tenants.services.resolve.stored: live sessions, own tenants only, in a constant number of queries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from tenants.models import RelayProcess, Role
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import make_operator, make_user
from tests.tenants.services.resolve.asking import SERVES, ResolveTestCase, ask, report, verdicts


class StoredTests(ResolveTestCase):
    def test_a_relay_that_is_not_heard_of_counts_for_nothing(self) -> None:
        report(self.backend, hostnames=["app.example.com"])
        RelayProcess.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        self.assertFalse(ask("app.example.com").live)

    def test_a_member_sees_own_tenants_only(self) -> None:
        member, stranger = make_user("member", acme=Role.VIEWER), make_user("stranger")
        other = make_tenant(slug="other")
        make_served_backend(other, "secluded.example.net")
        there, missing = (ask(name, user=member) for name in ("secluded.example.net", "missing.example.net"))
        self.assertEqual(there.backends, [])
        self.assertEqual(there.verdict.replace("secluded", "missing"), missing.verdict)
        self.assertEqual(there.notes, missing.notes)
        self.assertEqual(verdicts(ask("app.example.com", user=member)), {"edge": SERVES})
        self.assertEqual(ask("app.example.com", user=stranger).backends, [])
        self.assertEqual(len(ask("secluded.example.net", user=make_operator()).backends), 1)

    def test_a_constant_number_of_queries(self) -> None:
        counts = []
        for round in range(2):
            for number in range(5):
                backend = self.another("app.example.com", name=f"b-{round}-{number}")
                report(backend, hostnames=["app.example.com"])
            with self.assertNumQueries(counts[0]) if counts else _Counting() as counted:
                ask("app.example.com")
            counts.append(len(counted))
        self.assertLess(counts[0], 20)


class _Counting:
    """Counts queries."""

    def __enter__(self) -> Any:
        from django.test.utils import CaptureQueriesContext

        self._context = CaptureQueriesContext(connection)
        return self._context.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)
