"""Tests of the command rotate_keys as an operator runs it."""

from __future__ import annotations

from io import StringIO

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import TestCase, override_settings

from tests.support.registry import make_served_backend

NEW = Fernet.generate_key().decode()


class RotateKeysTests(TestCase):
    def setUp(self) -> None:
        self.old = list(settings.FIELD_ENCRYPTION_KEYS)
        for _ in range(6):
            make_served_backend()

    def test_what_no_key_opens_is_left_and_named(self) -> None:
        with override_settings(FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
            lost = make_served_backend().credential
        errors = StringIO()
        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW, *self.old]):
            with self.assertRaisesMessage(CommandError, "1 secrets are opened by none of the keys"):
                call_command("rotate_keys", stdout=StringIO(), stderr=errors)
        self.assertIn(f"no key opens tenants.Credential.secret of row {lost.pk}", errors.getvalue())

    def test_the_command_says_when_old_keys_can_go(self) -> None:
        output = StringIO()
        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW, *self.old]):
            with self.assertRaisesMessage(CommandError, "The old keys are still in use"):
                call_command("rotate_keys", "--check", stdout=output)
            call_command("rotate_keys", stdout=output)
            call_command("rotate_keys", "--check", stdout=output)
        self.assertIn("6 stored secrets: 6 would be re-encrypted, 0 were up to date.", output.getvalue())
        self.assertIn("All keys but the first can leave FIELD_ENCRYPTION_KEYS.", output.getvalue())

    def test_a_missing_or_broken_key_is_told(self) -> None:
        for keys in ([], ["no key"]):
            with override_settings(FIELD_ENCRYPTION_KEYS=keys):
                with self.assertRaisesMessage(CommandError, "FIELD_ENCRYPTION_KEYS"):
                    call_command("rotate_keys", stdout=StringIO())
