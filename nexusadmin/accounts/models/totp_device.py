"""TOTP device: an app that shows a new code every half minute, as a user's second factor."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any
from urllib.parse import quote, urlencode

from django.db import models
from django.views.decorators.debug import sensitive_variables
from django_otp.models import Device, ThrottlingMixin, TimestampMixin
from django_otp.oath import TOTP

from tenants.fields import EncryptedTextField

ISSUER = "nexusadmin"
STEP = 30  # seconds


def new_secret() -> str:
    """Return 160 random bits as authenticator apps take them."""
    return base64.b32encode(secrets.token_bytes(20)).decode("ascii")


class TotpDevice(TimestampMixin, ThrottlingMixin, Device):
    """A user's authenticator app. Unlike django-otp's own, its secret is encrypted at rest."""

    secret = EncryptedTextField(default=new_secret, editable=False)
    last_step = models.BigIntegerField(default=-1, editable=False, help_text="Of the newest code that was taken.")

    class Meta:
        verbose_name = "authenticator app"
        constraints = [
            models.UniqueConstraint(
                fields=["user", "confirmed"],
                name="totpdevice_user_unique",
                violation_error_message="This user has an authenticator app already.",
            ),
        ]

    def __str__(self) -> str:
        return f"authenticator app of {self.user}"

    def get_throttle_factor(self) -> int:
        return 1

    @sensitive_variables("secret")
    def address(self) -> str:
        """Return the ``otpauth:`` address that the QR code holds."""
        name = quote(f"{ISSUER}:{self.user.get_username()}")
        return f"otpauth://totp/{name}?{urlencode({'secret': self.secret, 'issuer': ISSUER, 'period': STEP})}"

    def verify_token(self, token: Any) -> bool:
        """Tell whether the code is right; each is taken once. Lock the row before."""
        if not self.verify_is_allowed()[0]:
            return False
        text = str(token)
        if text.isascii() and text.isdigit() and len(text) == 6:
            totp = TOTP(base64.b32decode(self.secret), STEP)
            totp.time = time.time()
            if totp.verify(int(text), tolerance=1, min_t=self.last_step + 1):
                self.last_step = totp.t()
                self.throttle_reset(commit=False)
                self.set_last_used_timestamp(commit=False)
                self.save()
                return True
        self.throttle_increment()
        return False
