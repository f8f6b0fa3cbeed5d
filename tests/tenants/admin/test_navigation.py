"""Tests of tenants.admin.navigation: the sidebar holds what the user may look at."""

from __future__ import annotations

from typing import Any

from django.test import RequestFactory

from tenants.admin.navigation import navigation
from tests.tenants.admin.pages import AdminTestCase


class NavigationTest(AdminTestCase):
    def titles(self, user: Any) -> set[str]:
        request = RequestFactory().get("/admin/")
        request.user = user
        return {item["title"] for group in navigation(request) for item in group["items"]}

    def test_who_sees_what(self) -> None:
        shared = {"Overview", "Backends", "Hostnames", "Who serves it?", "Usage"}
        for user in (self.viewer, self.editor, self.owner, self.operator):
            self.assertLessEqual(shared, self.titles(user), user)
        self.assertNotIn("Users", self.titles(self.owner))
        self.assertNotIn("Sites", self.titles(self.owner))
        self.assertLessEqual({"Users", "Sites", "Audit trail"}, self.titles(self.operator))
        self.assertIn("Audit trail", self.titles(self.owner))
        self.assertNotIn("Audit trail", self.titles(self.editor))
        self.assertEqual(self.titles(self.nobody), {"Overview"})

    def test_every_link_leads_somewhere(self) -> None:
        self.client.force_login(self.operator)
        request = RequestFactory().get("/admin/")
        request.user = self.operator
        for group in navigation(request):
            for item in group["items"]:
                with self.subTest(item["title"]):
                    self.assertEqual(self.client.get(item["link"]).status_code, 200)
