"""Tests of the pages of tenants: limits that members see, and operators change."""

from __future__ import annotations

from django.urls import reverse

from tenants.changes import generations
from tenants.models import Backend, Hostname, Tenant
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class LimitPageTest(AdminTestCase):
    def setUp(self) -> None:
        Tenant.objects.filter(pk=self.acme.pk).update(max_backends=1, max_hostnames=2)
        self.client.force_login(self.editor)

    def test_members_are_told_at_the_field(self) -> None:
        response = self.client.post(page("add", Hostname), {"tenant": self.acme.pk, "name": "b.example.com"})
        self.assertSaved(response)
        response = self.client.post(page("add", Hostname), {"tenant": self.acme.pk, "name": "c.example.com"})
        self.assertIn("has 2 hostnames and may have 2", errors_of(response)["name"][0])
        response = self.save(
            self.backend, **{"hostname_links-TOTAL_FORMS": 2, "hostname_links-1-name": "c.example.com"}
        )
        self.assertIn("ask an operator", errors_of(response)["hostname_links-1-name"][0])
        given = {**fields_of(self.client.get(page("add", Backend))), "tenant": self.acme.pk, "name": "second"}
        response = self.client.post(reverse("admin:tenants_backend_add"), given)
        self.assertIn("has 1 backends and may have 1", errors_of(response)["name"][0])

    def test_members_see_their_limits_and_change_none(self) -> None:
        self.client.post(page("change", self.acme), {"max_hostnames": 0})
        self.acme.refresh_from_db()
        self.assertEqual(self.acme.max_hostnames, 2)
        self.client.force_login(self.operator)
        given = {**fields_of(self.client.get(page("change", self.acme))), "max_hostnames": 3}
        self.assertSaved(self.client.post(page("change", self.acme), given))


class SwitchTest(AdminTestCase):
    def test_it_is_switched_off_and_on_with_one_change_each(self) -> None:
        self.client.force_login(self.operator)
        for action, expected in (("disable", False), ("enable", True)):
            with self.subTest(action=action):
                before = generations.current()
                chosen = {"_selected_action": [self.acme.pk], "action": action}
                self.client.post(page("changelist", self.acme), chosen)
                self.acme.refresh_from_db()
                self.assertIs(self.acme.enabled, expected)
                self.assertEqual(generations.current(), before + 1)
