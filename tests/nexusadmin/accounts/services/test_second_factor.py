"""The second factor where two ask at once."""

from __future__ import annotations

from django.contrib.auth import get_user_model

from nexusadmin.accounts.services import second_factor
from tests.nexusadmin.accounts.users import SecondFactorTestCase, code_of


class VerifyTest(SecondFactorTestCase):
    def test_two_at_once_use_one_code(self) -> None:
        device, _ = self.switch_on()
        code = code_of(device)
        self.assertEqual([bool(second_factor.verify(self.user, code)) for _ in range(2)], [True, False])
        self.assertEqual(get_user_model().objects.count(), 2)
