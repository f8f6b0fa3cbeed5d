"""Tests of tenants.services.relays.usage: sums over time and by backend, of what the user may see."""

from __future__ import annotations

from datetime import timedelta

from django.test import TestCase
from django.utils import timezone

from tenants.models import BackendUsage, Role
from tenants.services.relays import usage
from tests.support.registry import make_backend, make_tenant
from tests.tenants.admin.pages import make_operator, make_user


class UsageTests(TestCase):
    def setUp(self) -> None:
        self.acme, self.other = make_tenant(slug="acme"), make_tenant(slug="other")
        self.small, self.large = (make_backend(self.acme, name=name) for name in ("small", "large"))
        self.hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        self.viewer = make_user("viewer", acme=Role.VIEWER)
        for backend, streams, sent, peak in ((self.small, 1, 10, 2), (self.large, 5, 5_000, 9)):
            for hours in (0, 1):
                BackendUsage.objects.create(
                    tenant=self.acme,
                    backend=backend,
                    hour=self.hour - timedelta(hours=hours),
                    streams=streams,
                    refused=1,
                    bytes_received=1,
                    bytes_sent=sent,
                    peak_streams=peak,
                )

    def test_by_hour_the_newest_first_with_the_highest_peak(self) -> None:
        rows = usage.over_time(self.viewer, self.acme, 1)
        self.assertEqual([row["at"] for row in rows], [self.hour, self.hour - timedelta(hours=1)])
        self.assertEqual(
            [(row["streams"], row["refused"], row["bytes_sent"], row["peak_streams"]) for row in rows],
            [(6, 2, 5_010, 9)] * 2,
        )

    def test_by_day(self) -> None:
        rows = usage.over_time(self.viewer, self.acme, 30)
        self.assertEqual(sum(row["streams"] for row in rows), 12)
        self.assertTrue(all(row["at"].hour == 0 for row in rows))

    def test_by_backend_the_busiest_first(self) -> None:
        rows = usage.by_backend(self.viewer, self.acme, 1)
        self.assertEqual([(row["backend__name"], row["streams"]) for row in rows], [("large", 10), ("small", 2)])

    def test_what_is_not_the_users_is_not_counted(self) -> None:
        stranger = make_user("stranger", other=Role.OWNER)
        self.assertEqual(usage.over_time(stranger, self.acme, 1), [])
        self.assertEqual(usage.by_backend(stranger, self.acme, 1), [])
        self.assertEqual(usage.busiest_tenants(self.viewer), [])
        self.assertEqual([row["tenant__slug"] for row in usage.busiest_tenants(make_operator())], ["acme"])
