"""The second factor: an authenticator app, and recovery codes for when it is lost."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.views.decorators.debug import sensitive_variables
from django_otp.models import Device

from nexusadmin.accounts.models.recovery_codes import NUMBER, RecoveryCodes, hash_of, new_code
from nexusadmin.accounts.models.totp_device import TotpDevice
from tenants.services.access.permissions import sees_all
from tenants.services.audit import journal


def is_on(user: Any) -> bool:
    """Tell whether the user has a second factor, so needs it to log in."""
    return TotpDevice.objects.filter(user_id=user.pk, confirmed=True).exists()


def is_required(user: Any) -> bool:
    """Tell whether the user must have one: those who see everything, where REQUIRE_OPERATOR_TOTP is on."""
    return bool(settings.REQUIRE_OPERATOR_TOTP) and sees_all(user)


def may_enter(user: Any, verified: bool) -> bool:
    """Tell whether a session may continue.

    Args:
        user: whose session it is.
        verified: whether the session was begun with a second factor (`django_otp.DEVICE_ID_SESSION_KEY` is in it).
    """
    return verified or not is_required(user)


def begin(user: Any) -> TotpDevice:
    """Return a new app that waits for its first code; an earlier one is deleted."""
    with transaction.atomic():
        TotpDevice.objects.filter(user_id=user.pk, confirmed=False).delete()
        return TotpDevice.objects.create(user=user, name="authenticator app", confirmed=False)


def confirm(user: Any, code: str) -> TotpDevice | None:
    """Switch the second factor on if the code is the waiting app's, and delete the app before; None if it is wrong."""
    with transaction.atomic():
        device = TotpDevice.objects.select_for_update().filter(user_id=user.pk, confirmed=False).first()
        if device is None or not device.verify_token(code):
            return None
        TotpDevice.objects.filter(user_id=user.pk, confirmed=True).delete()
        device.confirmed = True
        device.save()
        journal.record("second factor switched on", user)
    return device


def verify(user: Any, code: str) -> Device | None:
    """Return the user's app, if the code is its own or a recovery code; None for a wrong code, or one too soon."""
    code = code.strip()
    recovering = len(code.replace(" ", "")) != 6
    with transaction.atomic():
        app = TotpDevice.objects.select_for_update().filter(user_id=user.pk, confirmed=True).first()
        if app is None:
            return None
        if not recovering:
            return app if app.verify_token(code.replace(" ", "")) else None
        codes = RecoveryCodes.objects.select_for_update().filter(user_id=user.pk).first()
        if codes is None or not codes.verify_token(code):
            return None
        journal.record("recovery code used", user, changes={"left": len(codes.hashes)})
    return app


@sensitive_variables("codes")
def make_recovery_codes(user: Any) -> list[str]:
    """Return new recovery codes, to be shown once; earlier ones stop working."""
    codes = [new_code() for _ in range(NUMBER)]
    with transaction.atomic():
        RecoveryCodes.objects.filter(user_id=user.pk).delete()
        RecoveryCodes.objects.create(user=user, name="recovery codes", hashes=[hash_of(code) for code in codes])
        journal.record("recovery codes made", user)
    return codes


def codes_left(user: Any) -> int:
    """Return how many recovery codes the user has left."""
    found = RecoveryCodes.objects.filter(user_id=user.pk).first()
    return 0 if found is None else len(found.hashes)


def switch_off(user: Any) -> bool:
    """Delete the user's app and codes; tell whether there was an app."""
    with transaction.atomic():
        had = bool(TotpDevice.objects.filter(user_id=user.pk).delete()[0])
        RecoveryCodes.objects.filter(user_id=user.pk).delete()
        if had:
            journal.record("second factor switched off", user)
    return had
