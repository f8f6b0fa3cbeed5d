"""Who must have a second factor reaches nothing without it."""

from __future__ import annotations

from django.test import Client, override_settings

from tenants.models import SiteRole
from tests.nexusadmin.accounts.users import LOGIN, SecondFactorTestCase, is_logged_in

PAGE = "/account/second-factor/"


class SecondFactorMiddlewareTest(SecondFactorTestCase):
    @override_settings(REQUIRE_OPERATOR_TOTP=True)
    def test_operators_without_one_reach_nothing_else(self) -> None:
        auditor = type(self.user).objects.create(username="auditor", is_staff=True)
        SiteRole.objects.create(user=auditor, role="auditor")
        for user in (self.operator, auditor):
            client = Client()
            client.force_login(user)
            for address in ("/admin/", "/admin/tenants/backend/", "/account/sessions/", "/invitations/accept/"):
                for method in (client.get, client.post):
                    self.assertRedirects(method(address), PAGE)
            self.assertContains(client.get(PAGE), "set a second factor up to go on")
            self.assertEqual(client.get("/healthz").status_code, 200)
            self.assertEqual(client.post("/admin/logout/").status_code, 200)
        self.client.force_login(self.user)
        self.assertEqual(self.client.get("/admin/").status_code, 200, "members need none")

    @override_settings(REQUIRE_OPERATOR_TOTP=True)
    def test_a_session_from_before_it_was_required_ends(self) -> None:
        self.switch_on(self.operator)
        self.client.force_login(self.operator)  # as if without a code
        self.assertRedirects(self.client.get("/admin/"), LOGIN)
        self.assertFalse(is_logged_in(self.client))
