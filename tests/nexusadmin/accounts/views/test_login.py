"""Logging in: the password, then the code."""

from __future__ import annotations

from datetime import timedelta

import time_machine
from django.utils import timezone

from nexusadmin.accounts.services import second_factor
from tenants.models import AuditEntry
from tests.nexusadmin.accounts.users import CODE, LOGIN, PASSWORD, SecondFactorTestCase, code_of, is_logged_in


class CodeTest(SecondFactorTestCase):
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
