"""The page of the second factor: set up, codes, switched off."""

from __future__ import annotations

import re

from django.test import Client, override_settings

from nexusadmin.accounts.models import RecoveryCodes, TotpDevice
from nexusadmin.accounts.services import second_factor
from tests.nexusadmin.accounts.users import PASSWORD, SecondFactorTestCase, code_of, is_logged_in

PAGE = "/account/second-factor/"


class SecondFactorPageTest(SecondFactorTestCase):
    def test_set_up_in_the_browser(self) -> None:
        other = Client()
        other.force_login(self.user)
        self.client.force_login(self.user)
        self.assertContains(self.client.get(PAGE), "<strong>off</strong>")
        self.assertContains(self.client.post(PAGE, {"do": "begin", "password": "wrong"}), "not your password")
        self.assertFalse(TotpDevice.objects.exists())
        page = self.client.post(PAGE, {"do": "begin", "password": PASSWORD})
        device = TotpDevice.objects.get()
        self.assertContains(page, "<svg")
        self.assertIn(device.secret, page.content.decode().replace(" ", ""))
        self.assertFalse(second_factor.is_on(self.user))
        wrong = self.client.post(PAGE, {"do": "confirm", "code": "000000" if code_of(device) != "000000" else "1"})
        self.assertContains(wrong, "This code is wrong")
        for shown in (wrong, self.client.get(PAGE)):
            self.assertNotIn(device.secret, shown.content.decode().replace(" ", ""), "it is shown once")
        TotpDevice.objects.update(throttling_failure_count=0)
        done = self.client.post(PAGE, {"do": "confirm", "code": code_of(device)})
        codes = re.findall(r"<li>([a-z2-7-]{19})</li>", done.content.decode())
        self.assertEqual(len(set(codes)), 10)
        self.assertNotContains(self.client.get(PAGE), codes[0])
        self.assertTrue(second_factor.is_on(self.user))
        self.assertTrue(is_logged_in(self.client))
        self.assertFalse(is_logged_in(other), "sessions that began without it are ended")
        self.assertIn("no-store", done["Cache-Control"])

    def test_switching_off_takes_password_and_code(self) -> None:
        device, codes = self.switch_on()
        self.client.force_login(self.user)
        for data in ({}, {"password": PASSWORD}, {"code": codes[0]}, {"password": "wrong", "code": codes[0]}):
            self.client.post(PAGE, {"do": "off", **data})
            self.assertTrue(second_factor.is_on(self.user))
        self.client.post(PAGE, {"do": "codes", "password": PASSWORD, "code": codes[1]})
        self.assertEqual(second_factor.codes_left(self.user), 10)
        self.client.post(PAGE, {"do": "off", "password": PASSWORD, "code": code_of(device)})
        self.assertFalse(second_factor.is_on(self.user))
        self.assertFalse(RecoveryCodes.objects.exists())
        self.client.logout()
        self.assertRedirects(self.log_in(), "/admin/")

    @override_settings(REQUIRE_OPERATOR_TOTP=True)
    def test_operators_who_set_one_up_go_on(self) -> None:
        self.client.force_login(self.operator)
        self.client.post(PAGE, {"do": "begin", "password": PASSWORD})
        device = TotpDevice.objects.get()
        self.client.post(PAGE, {"do": "confirm", "code": code_of(device)})
        self.assertEqual(self.client.get("/admin/").status_code, 200)
        self.client.logout()
        self.log_in("operator")
        device.refresh_from_db()
        self.enter(code_of(device, 1))
        self.assertEqual(self.client.get("/admin/").status_code, 200)
