"""Where addresses lead."""

from __future__ import annotations

from django.test import TestCase


class UrlTests(TestCase):
    def test_the_root_leads_to_the_admin(self) -> None:
        self.assertRedirects(self.client.get("/"), "/admin/", fetch_redirect_response=False)
        self.assertContains(self.client.get("/admin/login/"), "nexusadmin")
