"""The second factor: set up, asked for at log-in, recovered, reset, and required."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import time_machine
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core import serializers
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from nexusadmin.accounts.models import LoginSession, RecoveryCodes, TotpDevice
from nexusadmin.accounts.services import second_factor
from tenants.models import AuditEntry, SiteRole
from tests.nexusadmin.accounts.users import CODE, LOGIN, PASSWORD, AccountTestCase, code_of, is_logged_in

PAGE = "/account/second-factor/"


class SecondFactorTest(AccountTestCase):
    def switch_on(self, user: Any = None) -> tuple[TotpDevice, list[str]]:
        user = user or self.user
        device = second_factor.begin(user)
        self.assertIsNotNone(second_factor.confirm(user, code_of(device, -1)))
        return TotpDevice.objects.get(user=user), second_factor.make_recovery_codes(user)

    def enter(self, code: str, client: Client | None = None) -> Any:
        return (client or self.client).post(CODE, {"code": code})

    # -- setting up

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

    def test_the_secret_is_encrypted_and_in_no_dump(self) -> None:
        device, codes = self.switch_on()
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f'SELECT * FROM "{table}"')
                rows = str(cursor.fetchall())
                for secret in (device.secret, codes[0], codes[0].replace("-", "")):
                    self.assertNotIn(secret, rows, table)
        self.assertNotIn(device.secret, serializers.serialize("json", TotpDevice.objects.all()))
        self.assertNotIn(device.secret, repr(device) + str(device) + str(device.__dict__))

    def test_no_page_shows_devices(self) -> None:
        device, codes = self.switch_on(self.operator)
        self.client.force_login(self.operator)
        self.assertFalse({TotpDevice, RecoveryCodes, LoginSession} & set(admin.site._registry))
        for address in (reverse("admin:auth_user_change", args=[self.operator.pk]), PAGE, "/account/sessions/"):
            text = self.client.get(address).content.decode()
            self.assertFalse([secret for secret in (device.secret, *codes) if secret in text])

    # -- logging in

    def test_the_password_alone_logs_nobody_in(self) -> None:
        device, _ = self.switch_on()
        answer = self.log_in()
        self.assertRedirects(answer, CODE)
        self.assertFalse(is_logged_in(self.client))
        self.assertRedirects(self.client.get("/admin/"), f"{LOGIN}?next=/admin/")
        self.assertFalse(AuditEntry.objects.filter(action="logged in").exists())
        done = self.enter(code_of(device))
        self.assertRedirects(done, "/admin/")
        self.assertTrue(is_logged_in(self.client))
        self.assertEqual(AuditEntry.objects.filter(action="logged in").count(), 1)

    def test_a_form_without_a_code_is_asked_for_one(self) -> None:
        self.switch_on()
        self.log_in()
        answer = self.client.post(CODE)
        self.assertContains(answer, "This field is required")
        self.assertFalse(is_logged_in(self.client))

    def test_a_code_works_once(self) -> None:
        device, _ = self.switch_on()
        code = code_of(device)
        self.log_in()
        self.enter(code)
        self.client.logout()
        self.log_in()
        self.assertContains(self.enter(code), "was used")

    def test_wrong_codes_are_throttled_and_counted_as_failed_log_ins(self) -> None:
        device, _ = self.switch_on()
        self.log_in()
        now = timezone.now()
        with time_machine.travel(now, tick=False):
            self.assertEqual(self.enter("abcdef").status_code, 200)
            self.assertEqual(self.enter(code_of(device)).status_code, 200, "too soon")
        for number in range(1, 4):
            with time_machine.travel(now + timedelta(seconds=60 * number), tick=False):
                self.assertIn(self.enter("abcdef").status_code, (200, 429))
        self.log_in(REMOTE_ADDR="192.0.2.99")
        with time_machine.travel(now + timedelta(seconds=270), tick=False):
            self.assertEqual(self.enter(code_of(device)).status_code, 429)
        self.assertFalse(is_logged_in(self.client))

    def test_recovery_codes_work_once_each(self) -> None:
        _, codes = self.switch_on()
        self.log_in()
        self.assertRedirects(self.enter(codes[0].upper().replace("-", " ")), "/admin/")
        self.client.logout()
        self.log_in()
        self.assertContains(self.enter(codes[0]), "was used")
        self.assertEqual(second_factor.codes_left(self.user), 9)
        self.assertTrue(AuditEntry.objects.filter(action="recovery code used").exists())

    def test_the_second_step_waits_a_while_only_and_for_that_password_only(self) -> None:
        device, _ = self.switch_on()
        self.assertRedirects(self.client.get(CODE), LOGIN)
        self.log_in()
        with time_machine.travel(timezone.now() + timedelta(minutes=6), tick=False):
            self.assertRedirects(self.enter(code_of(device)), LOGIN)
        self.log_in()
        self.user.set_password("another password that nobody guesses")
        self.user.save()
        self.assertRedirects(self.enter(code_of(device)), LOGIN)
        self.assertFalse(is_logged_in(self.client))

    def test_where_it_leads_is_this_site(self) -> None:
        device, _ = self.switch_on()
        data = {"username": "somebody", "password": PASSWORD, "next": "https://evil.example.com/"}
        self.client.post(LOGIN, data)
        self.assertRedirects(self.enter(code_of(device)), "/admin/")

    # -- switching off

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

    # -- required

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

    @override_settings(REQUIRE_OPERATOR_TOTP=True)
    def test_a_session_from_before_it_was_required_ends(self) -> None:
        self.switch_on(self.operator)
        self.client.force_login(self.operator)  # as if without a code
        self.assertRedirects(self.client.get("/admin/"), LOGIN)
        self.assertFalse(is_logged_in(self.client))

    def test_two_at_once_use_one_code(self) -> None:
        device, _ = self.switch_on()
        code = code_of(device)
        self.assertEqual([bool(second_factor.verify(self.user, code)) for _ in range(2)], [True, False])
        self.assertEqual(get_user_model().objects.count(), 2)
