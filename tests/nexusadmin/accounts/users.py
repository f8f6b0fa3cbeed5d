"""Users with passwords, and logging in as a browser does."""

from __future__ import annotations

import base64
import logging
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.test import Client, TestCase
from django.test.utils import override_settings
from django_otp.oath import TOTP

from tests.tenants.admin.pages import make_operator, make_user

PASSWORD = "a password that nobody guesses"
LOGIN, CODE = "/admin/login/", "/admin/login/code/"
ADDRESS = "192.0.2.7"


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
