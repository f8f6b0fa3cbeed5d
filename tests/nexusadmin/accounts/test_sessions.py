"""Sessions are seen and ended by their user, end by themselves, and no dump of the database opens one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import time_machine
from django.conf import settings
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from nexusadmin.accounts.models import LoginSession
from tenants import sessions
from tenants.models import AuditEntry
from tests.nexusadmin.accounts.users import ADDRESS, PASSWORD, AccountTestCase, is_logged_in

PAGE = "/account/sessions/"


class SessionTest(AccountTestCase):
    def clients(self, number: int) -> list[Client]:
        found = [Client(REMOTE_ADDR=f"192.0.2.{place}", HTTP_USER_AGENT=f"Browser {place}") for place in range(number)]
        for place, client in enumerate(found):
            self.log_in(client=client, REMOTE_ADDR=f"192.0.2.{place}")
            self.assertTrue(is_logged_in(client))
        return found

    def test_the_row_says_whose_it_is_and_not_its_key(self) -> None:
        self.log_in(HTTP_USER_AGENT="A Browser <b>")
        row = LoginSession.objects.get(user=self.user)
        self.assertEqual((row.address, row.browser), (ADDRESS, "A Browser <b>"))
        cookie = self.client.cookies[settings.SESSION_COOKIE_NAME].value
        self.assertNotIn(cookie, str(LoginSession.objects.values()))
        self.assertEqual(row.pk, sessions.row_key(cookie))
        stolen = Client()
        stolen.cookies[settings.SESSION_COOKIE_NAME] = row.pk
        self.assertRedirects(stolen.get("/admin/"), "/admin/login/?next=/admin/")

    def test_the_page_lists_ones_own(self) -> None:
        first, _ = self.clients(2)
        operators = Client()
        operators.force_login(self.operator)
        page = first.get(PAGE)
        self.assertContains(page, "Browser 0")
        self.assertContains(page, "Browser 1")
        self.assertContains(page, "(this one)", count=1)
        self.assertEqual(len(page.context["rows"]), 2)
        self.assertEqual(Client().get(PAGE).status_code, 302)

    def test_one_is_ended(self) -> None:
        first, second, third = self.clients(3)
        key = sessions.row_key(second.session.session_key)
        first.post(PAGE, {"end": key})
        self.assertEqual([is_logged_in(each) for each in (first, second, third)], [True, False, True])
        self.assertTrue(AuditEntry.objects.filter(action="sessions ended").exists())

    def test_all_others_are_ended(self) -> None:
        first, second, third = self.clients(3)
        first.post(PAGE, {"others": "1"})
        self.assertEqual([is_logged_in(each) for each in (first, second, third)], [True, False, False])

    def test_ending_the_own_logs_out(self) -> None:
        (first,) = self.clients(1)
        first.post(PAGE, {"end": sessions.row_key(first.session.session_key)})
        self.assertFalse(is_logged_in(first))

    def test_foreign_ones_are_not_ended(self) -> None:
        self.log_in()
        operators = Client()
        operators.force_login(self.operator)
        self.client.post(PAGE, {"end": sessions.row_key(operators.session.session_key)})
        self.client.post(PAGE, {"others": "1"})
        self.assertTrue(is_logged_in(operators))

    def test_a_new_password_ends_the_others(self) -> None:
        first, second = self.clients(2)
        new = "another password that nobody guesses"
        data = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
        self.assertEqual(first.post(reverse("admin:password_change"), data).status_code, 302)
        self.assertEqual([is_logged_in(each) for each in (first, second)], [True, False])
        self.assertEqual(LoginSession.objects.filter(user=self.user).count(), 1)
        self.assertEqual(first.get("/admin/").status_code, 200)
        self.user.refresh_from_db()
        self.user.set_password(PASSWORD)
        self.user.save()
        self.assertFalse(is_logged_in(first), "an operator or a command sets it")

    def test_operators_end_a_users_sessions(self) -> None:
        first, second = self.clients(2)
        operators = Client()
        operators.force_login(self.operator)
        data = {"action": "end_sessions", "_selected_action": [self.user.pk, self.operator.pk]}
        page = operators.post(reverse("admin:auth_user_changelist"), data, follow=True)
        self.assertContains(page, "2 sessions ended.")
        self.assertEqual([is_logged_in(each) for each in (first, second, operators)], [False, False, True])

    def travel(self, client: Client, start: Any, minutes: float) -> int:
        with time_machine.travel(start + timedelta(minutes=minutes), tick=False):
            return int(client.get("/admin/").status_code)

    def test_an_unused_session_ends(self) -> None:
        (client,) = self.clients(1)
        start = timezone.now()
        self.assertEqual(self.travel(client, start, 100), 200)
        self.assertEqual(self.travel(client, start, 200), 200)
        self.assertEqual(self.travel(client, start, 321), 302)

    @override_settings(SESSION_LONGEST=3 * 3_600)
    def test_a_used_session_ends_too(self) -> None:
        (client,) = self.clients(1)
        start = timezone.now()
        answers = [self.travel(client, start, minutes) for minutes in (90, 170, 179, 181)]
        self.assertEqual(answers, [200, 200, 200, 302])

    def test_use_is_noted_once_a_minute(self) -> None:
        (client,) = self.clients(1)
        start = timezone.now()
        seen = []
        for minutes in (0.5, 2, 2.5):
            self.travel(client, start, minutes)
            seen.append(LoginSession.objects.get(user=self.user).seen_at)
        self.assertLess(seen[0], seen[1])
        self.assertEqual(seen[1], seen[2])

    def test_a_request_that_asks_for_nobody_writes_no_session(self) -> None:
        self.client.get("/healthz")
        self.client.get("/admin/login/")
        self.assertFalse(LoginSession.objects.exists())

    def test_an_inactive_user_is_out(self) -> None:
        (client,) = self.clients(1)
        type(self.user).objects.filter(pk=self.user.pk).update(is_active=False)
        self.assertEqual(client.get("/admin/").status_code, 302)
