"""Changing the own password."""

from __future__ import annotations

from django.test import override_settings
from django.urls import reverse

from tests.nexusadmin.accounts.users import LIMITS, PASSWORD, AccountTestCase


@override_settings(**LIMITS)
class OwnPasswordTest(AccountTestCase):
    def test_the_old_password_can_not_be_tried_out_either(self) -> None:
        self.log_in()
        new = "another password that nobody guesses"
        data = {"new_password1": new, "new_password2": new}
        address, client = reverse("admin:password_change"), {"REMOTE_ADDR": "192.0.2.7"}
        answers = [self.client.post(address, {**data, "old_password": f"wrong {n}"}, **client) for n in range(3)]
        self.assertContains(answers[0], "old password was entered incorrectly")
        self.assertEqual(answers[2].status_code, 429)
        self.assertEqual(self.client.post(address, {**data, "old_password": PASSWORD}, **client).status_code, 429)
        self.user.refresh_from_db()
        self.assertTrue(self.user.check_password(PASSWORD))
