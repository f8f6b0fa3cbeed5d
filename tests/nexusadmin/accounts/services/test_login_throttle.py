"""Failed log-ins are counted by name and address and by address, and nothing tells whether anybody has the name."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from typing import Any
from unittest import mock

import time_machine
from axes.models import AccessAttempt
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from django.utils import timezone

from tests.nexusadmin.accounts.users import LIMITS, LOGIN, PASSWORD, AccountTestCase, is_logged_in


@override_settings(**LIMITS)
class ThrottleTest(AccountTestCase):
    def fail(self, times: int, name: str = "somebody", **extra: Any) -> list[Any]:  # type: ignore[override]
        return [self.log_in(name, "wrong", **extra) for _ in range(times)]

    def test_a_name_is_locked_for_the_address(self) -> None:
        codes = [answer.status_code for answer in self.fail(4)]
        self.assertEqual(codes, [200, 200, 429, 429])
        locked = self.log_in()
        self.assertContains(locked, "Too many failed log-ins from here", status_code=429)
        self.assertContains(locked, "15 minutes", status_code=429)
        self.assertEqual(locked["Retry-After"], "900")
        self.assertFalse(is_logged_in(self.client))
        self.assertEqual(self.log_in(REMOTE_ADDR="192.0.2.8").status_code, 302)

    def test_the_lock_ends_however_often_is_tried_in_between(self) -> None:
        self.assertEqual([answer.status_code for answer in self.fail(3)], [200, 200, 429])
        now = timezone.now()
        with time_machine.travel(now + timedelta(minutes=14), tick=False):
            self.assertEqual(self.log_in().status_code, 429)
        with time_machine.travel(now + timedelta(minutes=15, seconds=2), tick=False):
            self.assertEqual(self.log_in().status_code, 302)

    def test_an_address_is_locked_for_all_names(self) -> None:
        codes = [self.fail(1, f"name-{number}")[0].status_code for number in range(9)]
        self.assertEqual(codes, [200] * 8 + [429])
        self.assertEqual(self.log_in().status_code, 429)
        self.assertEqual(self.log_in(REMOTE_ADDR="192.0.2.8").status_code, 302)

    def test_logging_in_does_not_wipe_the_address_clean(self) -> None:
        for number in range(8):
            self.fail(1, f"name-{number}")
        self.assertEqual(self.log_in().status_code, 302)
        self.client.logout()
        self.assertEqual(self.fail(1, "name-8")[0].status_code, 429)

    def test_logging_in_wipes_the_name_clean(self) -> None:
        self.fail(2)
        self.assertEqual(self.log_in().status_code, 302)
        self.client.logout()
        self.assertEqual([answer.status_code for answer in self.fail(3)], [200, 200, 429])

    def test_other_browsers_and_ways_to_write_the_name_do_not_help(self) -> None:
        self.fail(1, HTTP_USER_AGENT="one")
        self.fail(1, "SOMEBODY ", HTTP_USER_AGENT="two")
        self.fail(1, "ｓomebody", HTTP_USER_AGENT="three")
        self.assertEqual(self.log_in(HTTP_USER_AGENT="four").status_code, 429)

    def test_an_ipv6_client_is_its_network(self) -> None:
        for number in range(3):
            self.fail(1, REMOTE_ADDR=f"2001:db8:1:2::{number:x}")
        self.assertEqual(self.log_in(REMOTE_ADDR="2001:db8:1:2:ffff::1").status_code, 429)
        self.assertEqual(self.log_in(REMOTE_ADDR="2001:db8:1:3::1").status_code, 302)

    def test_a_header_of_the_client_changes_nothing(self) -> None:
        for number in range(3):
            self.fail(1, HTTP_X_FORWARDED_FOR=f"198.51.100.{number}", HTTP_X_REAL_IP=f"198.51.100.{number}")
        self.assertEqual(self.log_in(HTTP_X_FORWARDED_FOR="198.51.100.99").status_code, 429)

    def test_clients_without_an_address_lock_out_names_only(self) -> None:
        for number in range(12):
            self.fail(1, f"name-{number}", REMOTE_ADDR="")
        self.assertEqual(self.log_in(REMOTE_ADDR="").status_code, 302)
        self.client.logout()
        self.assertEqual([answer.status_code for answer in self.fail(3, REMOTE_ADDR="")], [200, 200, 429])
        self.assertEqual(self.log_in(REMOTE_ADDR="").status_code, 429)

    def test_nothing_tells_whether_the_name_exists(self) -> None:
        def told(answer: Any) -> tuple[int, str]:
            return answer.status_code, re.sub(r'(Token"?: "|value=")[^"]*"', "", answer.content.decode())

        inactive = type(self.user).objects.create(username="inactive", is_staff=True, is_active=False)
        outsider = type(self.user).objects.create(username="outsider")
        for user in (inactive, outsider):
            user.set_password(PASSWORD)
            user.save()
        cases = [("somebody", "wrong"), ("no-such-name", "wrong"), ("inactive", PASSWORD), ("outsider", "wrong")]
        for number in range(4):
            answers = set()
            for place, (name, password) in enumerate(cases):
                client = Client()
                answers.add(told(self.log_in(name, password, client, REMOTE_ADDR=f"203.0.113.{place}")))
            self.assertEqual(len(answers), 1, f"after {number} failures")
        self.assertContains(self.log_in("outsider", REMOTE_ADDR="203.0.113.9"), "correct username and password")

    def test_neither_names_nor_passwords_are_stored(self) -> None:
        self.fail(3, "my-password-in-the-wrong-field")
        stored = str(list(AccessAttempt.objects.values()))
        self.assertNotIn("my-password", stored)
        self.assertNotIn("wrong'", stored)

    def test_a_name_longer_than_any_costs_no_time(self) -> None:
        seen: list[int] = []

        def normalize(form: str, text: str) -> str:
            seen.append(len(text))
            return unicodedata.normalize(form, text)

        with mock.patch("nexusadmin.accounts.services.login_throttle.unicodedata", mock.Mock(normalize=normalize)):
            # Marks in the wrong order are sorted one by one: 2 MB of them would take half an hour.
            self.assertEqual(self.log_in("a" + "\u0300\u0316" * 300_000, "wrong").status_code, 200)
            self.assertEqual(self.log_in("ﾍ" * 150, "wrong").status_code, 200)
        self.assertEqual(max(seen), 150)

    def test_a_name_that_is_no_text(self) -> None:
        for name in ("\0", "x" * 5_000, ""):
            self.assertIn(self.log_in(name, "wrong").status_code, (200, 429))
        self.assertEqual(self.client.post(LOGIN, {}).status_code, 200)
        self.assertTrue(get_user_model().objects.filter(pk=self.user.pk).exists())
