"""Sessions end by themselves, and no dump of the database opens one."""

from __future__ import annotations

from django.conf import settings
from django.test import Client, override_settings
from django.utils import timezone

from nexusadmin.accounts.models import LoginSession
from nexusadmin.accounts.session_store import row_key
from tests.nexusadmin.accounts.users import ADDRESS, AccountTestCase


class SessionStoreTest(AccountTestCase):
    def test_the_row_says_whose_it_is_and_not_its_key(self) -> None:
        self.log_in(HTTP_USER_AGENT="A Browser <b>")
        row = LoginSession.objects.get(user=self.user)
        self.assertEqual((row.address, row.browser), (ADDRESS, "A Browser <b>"))
        cookie = self.client.cookies[settings.SESSION_COOKIE_NAME].value
        self.assertNotIn(cookie, str(LoginSession.objects.values()))
        self.assertEqual(row.pk, row_key(cookie))
        stolen = Client()
        stolen.cookies[settings.SESSION_COOKIE_NAME] = row.pk
        self.assertRedirects(stolen.get("/admin/"), "/admin/login/?next=/admin/")

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
