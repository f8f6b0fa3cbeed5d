"""What operators do with accounts in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.test import Client, override_settings
from django.urls import reverse

from nexusadmin.accounts.models import LoginSession, RecoveryCodes, TotpDevice
from nexusadmin.accounts.services import second_factor
from tenants.models import SiteRole
from tests.nexusadmin.accounts.users import LIMITS, AccountTestCase, SecondFactorTestCase, is_logged_in


class SecondFactorTest(SecondFactorTestCase):
    def test_no_page_shows_devices(self) -> None:
        device, codes = self.switch_on(self.operator)
        self.client.force_login(self.operator)
        self.assertFalse({TotpDevice, RecoveryCodes, LoginSession} & set(admin.site._registry))
        for address in (
            reverse("admin:auth_user_change", args=[self.operator.pk]),
            "/account/second-factor/",
            "/account/sessions/",
        ):
            text = self.client.get(address).content.decode()
            self.assertFalse([secret for secret in (device.secret, *codes) if secret in text])

    def test_operators_reset_it_and_nobody_else(self) -> None:
        self.switch_on()
        address = reverse("admin:auth_user_changelist")
        data = {"action": "reset_second_factor", "_selected_action": [self.user.pk]}
        auditor = type(self.user).objects.create(username="auditor", is_staff=True)
        SiteRole.objects.create(user=auditor, role="auditor")
        theirs = Client()
        theirs.force_login(self.user)
        for user, is_on in ((self.user, True), (auditor, True), (self.operator, False)):
            client = Client()
            client.force_login(user)
            client.post(address, data)
            self.assertEqual(second_factor.is_on(self.user), is_on, user.username)
        self.assertFalse(is_logged_in(theirs))


class SessionsTest(AccountTestCase):
    def test_operators_end_a_users_sessions(self) -> None:
        first, second = self.clients(2)
        operators = Client()
        operators.force_login(self.operator)
        data = {"action": "end_sessions", "_selected_action": [self.user.pk, self.operator.pk]}
        page = operators.post(reverse("admin:auth_user_changelist"), data, follow=True)
        self.assertContains(page, "2 sessions ended.")
        self.assertEqual([is_logged_in(each) for each in (first, second, operators)], [False, False, True])


@override_settings(**LIMITS)
class UnlockTest(AccountTestCase):
    def fail(self, times: int, name: str = "somebody", **extra: Any) -> list[Any]:  # type: ignore[override]
        return [self.log_in(name, "wrong", **extra) for _ in range(times)]

    def test_an_operator_unlocks(self) -> None:
        self.fail(3)
        operators = Client()
        operators.force_login(self.operator)
        address = reverse("admin:auth_user_changelist")
        operators.post(address, {"action": "unlock_log_in", "_selected_action": [self.user.pk]})
        self.assertEqual(self.log_in().status_code, 302)

    def test_its_own_admin_pages_are_not_there(self) -> None:
        known = {model._meta.app_label for model in admin.site._registry}
        self.assertEqual(known & {"axes", "django_otp", "otp_totp", "otp_static", "sessions"}, set())
