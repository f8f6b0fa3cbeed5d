"""Users with passwords and second factors, and logging in as a browser does."""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from django.contrib.auth import SESSION_KEY
from django.test import Client, TestCase
from django.test.utils import override_settings
from django_otp.oath import TOTP

from nexusadmin.accounts.models import TotpDevice
from nexusadmin.accounts.services import second_factor
from tests.tenants.admin.pages import make_operator, make_user

PASSWORD = "a password that nobody guesses"
LOGIN, CODE = "/admin/login/", "/admin/login/code/"
ADDRESS = "192.0.2.7"
LIMITS = {"LOGIN_FAILURES": 3, "AXES_FAILURE_LIMIT": 3, "LOGIN_FAILURES_OF_ADDRESS": 9}


def code_of(device: Any, later: int = 0) -> str:
    """Return the code that the app shows now, or some steps later."""
    return f"{TOTP(base64.b32decode(device.secret), drift=later).token():06}"


def is_logged_in(client: Client) -> bool:
    """Say whether the client's session is somebody's."""
    return SESSION_KEY in client.session


@override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
class AccountTestCase(TestCase):
    """Somebody with a password, and an operator."""

    user: Any
    operator: Any

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        log = logging.getLogger("django.request")
        level = log.level
        log.setLevel(logging.CRITICAL)
        cls.addClassCleanup(log.setLevel, level)

    def setUp(self) -> None:
        self.user, self.operator = make_user("somebody"), make_operator()
        for user in (self.user, self.operator):
            user.set_password(PASSWORD)
            user.save()

    def log_in(
        self, name: str = "somebody", password: str = PASSWORD, client: Client | None = None, **extra: Any
    ) -> Any:
        """Post the log-in form."""
        data = {"username": name, "password": password, "next": "/admin/"}
        return (client or self.client).post(LOGIN, data, **{"REMOTE_ADDR": ADDRESS, **extra})

    def travel(self, client: Client, start: Any, minutes: float) -> int:
        """Return the status of the front page some minutes later."""
        with time_machine.travel(start + timedelta(minutes=minutes), tick=False):
            return int(client.get("/admin/").status_code)

    def clients(self, number: int) -> list[Client]:
        """Return as many browsers in which the user has logged in."""
        found = [Client(REMOTE_ADDR=f"192.0.2.{place}", HTTP_USER_AGENT=f"Browser {place}") for place in range(number)]
        for place, client in enumerate(found):
            self.log_in(client=client, REMOTE_ADDR=f"192.0.2.{place}")
            self.assertTrue(is_logged_in(client))
        return found


class SecondFactorTestCase(AccountTestCase):
    """Users who switch the second factor on."""

    def switch_on(self, user: Any = None) -> tuple[TotpDevice, list[str]]:
        """Return the user's app and recovery codes."""
        user = user or self.user
        device = second_factor.begin(user)
        with time_machine.travel(datetime.now(UTC), tick=False):  # a code is good for the step that it is made in
            self.assertIsNotNone(second_factor.confirm(user, code_of(device, -1)))
        return TotpDevice.objects.get(user=user), second_factor.make_recovery_codes(user)

    def enter(self, code: str, client: Client | None = None) -> Any:
        """Post the form of the second step."""
        return (client or self.client).post(CODE, {"code": code})
