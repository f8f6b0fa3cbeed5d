"""Recovery codes: what a user writes down in case the authenticator app is lost."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

from django.db import models
from django.views.decorators.debug import sensitive_variables
from django_otp.models import Device, ThrottlingMixin, TimestampMixin

NUMBER = 10


def new_code() -> str:
    """Return 80 random bits in four groups."""
    text = base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


@sensitive_variables("code", "text")
def hash_of(code: str) -> str:
    """Return what is stored of a code, however it is written; 80 random bits need nothing slower."""
    text = "".join(each for each in code.lower() if each.isalnum())
    return hashlib.sha256(text.encode()).hexdigest()


class RecoveryCodes(TimestampMixin, ThrottlingMixin, Device):
    """A user's codes that are left; each works once."""

    hashes = models.JSONField(default=list, editable=False)

    class Meta:
        verbose_name = "recovery codes"
        verbose_name_plural = "recovery codes"
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                name="recoverycodes_user_unique",
                violation_error_message="This user has recovery codes already.",
            ),
        ]

    def __str__(self) -> str:
        return f"recovery codes of {self.user}"

    def get_throttle_factor(self) -> int:
        return 1

    def verify_token(self, token: Any) -> bool:
        """Tell whether the code is one of those left, and use it up. Lock the row before."""
        if not self.verify_is_allowed()[0]:
            return False
        hashed = hash_of(str(token))
        if hashed not in self.hashes:
            self.throttle_increment()
            return False
        self.hashes = [each for each in self.hashes if each != hashed]
        self.throttle_reset(commit=False)
        self.set_last_used_timestamp(commit=False)
        self.save()
        return True
