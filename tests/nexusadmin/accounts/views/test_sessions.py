"""The page on which users see and end their sessions."""

from __future__ import annotations

from django.test import Client

from nexusadmin.accounts.session_store import row_key
from tenants.models import AuditEntry
from tests.nexusadmin.accounts.users import AccountTestCase, is_logged_in

PAGE = "/account/sessions/"


class SessionsPageTest(AccountTestCase):
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
        key = row_key(second.session.session_key)
        first.post(PAGE, {"end": key})
        self.assertEqual([is_logged_in(each) for each in (first, second, third)], [True, False, True])
        self.assertTrue(AuditEntry.objects.filter(action="sessions ended").exists())

    def test_all_others_are_ended(self) -> None:
        first, second, third = self.clients(3)
        first.post(PAGE, {"others": "1"})
        self.assertEqual([is_logged_in(each) for each in (first, second, third)], [True, False, False])

    def test_ending_the_own_logs_out(self) -> None:
        (first,) = self.clients(1)
        first.post(PAGE, {"end": row_key(first.session.session_key)})
        self.assertFalse(is_logged_in(first))

    def test_foreign_ones_are_not_ended(self) -> None:
        self.log_in()
        operators = Client()
        operators.force_login(self.operator)
        self.client.post(PAGE, {"end": row_key(operators.session.session_key)})
        self.client.post(PAGE, {"others": "1"})
        self.assertTrue(is_logged_in(operators))
