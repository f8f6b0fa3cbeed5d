"""What is noted of sessions, and what ends them."""

from __future__ import annotations

from django.urls import reverse
from django.utils import timezone

from nexusadmin.accounts.models import LoginSession
from tests.nexusadmin.accounts.users import PASSWORD, AccountTestCase, is_logged_in


class LoginSessionsTest(AccountTestCase):
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
