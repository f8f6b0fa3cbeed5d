"""Tests of tenants.admin.dashboard: what the user may see, and which backends need a look."""

from __future__ import annotations

from django.urls import reverse

from tests.tenants.admin.pages import AdminTestCase


class DashboardTest(AdminTestCase):
    def test_the_dashboard_counts_what_is_seen(self) -> None:
        self.client.force_login(self.viewer)
        counts = {each["title"]: each["number"] for each in self.client.get(reverse("admin:index")).context["counts"]}
        self.assertEqual((counts["backend"], counts["hostname"], counts["tenant"]), (1, 1, 1))
