"""Tests of tenants.services.encryption: everything is encrypted with the newest key, and nothing else happens."""

from __future__ import annotations

from typing import Any
from unittest import mock

from cryptography.fernet import Fernet
from django.conf import settings
from django.test import TestCase, override_settings

from tenants.changes import generations
from tenants.fields import newest_box
from tenants.models import AuditEntry, Credential
from tenants.services import encryption
from tenants.services.encryption import encrypted_fields, reencrypt
from tests.support.registry import make_backend, make_served_backend

NEW = Fernet.generate_key().decode()


class EncryptionTests(TestCase):
    def setUp(self) -> None:
        self.old = list(settings.FIELD_ENCRYPTION_KEYS)
        for number in range(5):
            backend = make_served_backend()
            backend.credential.secret = f"secret number {number}"
            backend.credential.save()
        Credential.objects.create(
            backend=make_backend(), kind="command", command="/bin/attest", env={"KEY": "value of the environment"}
        )

    def ciphertexts(self) -> list[str]:
        rows = Credential.objects.order_by("pk").values_list("secret", "env")
        return [value.ciphertext for row in rows for value in row if value is not None]

    def test_every_encrypted_field_is_found(self) -> None:
        found = {each.where for each in encrypted_fields()}
        self.assertLessEqual(
            {
                "tenants.Credential.secret",
                "tenants.Credential.next_secret",
                "tenants.Credential.env",
                "accounts.TotpDevice.secret",
            },
            found,
        )

    def test_all_is_encrypted_with_the_newest_key_and_nothing_else_happens(self) -> None:
        generation, entries = generations.current(), AuditEntry.objects.count()
        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW, *self.old]):
            self.assertEqual(reencrypt(check=True).renewed, 6)
            found = reencrypt(batch=2)
            self.assertEqual((found.total, found.renewed, found.done, found.left), (6, 6, 0, []))
            for ciphertext in self.ciphertexts():
                newest_box().decrypt(ciphertext.encode())
            again = reencrypt()
            self.assertEqual((again.renewed, again.done), (0, 6))
        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW]):
            self.assertEqual(
                sorted(row.secret for row in Credential.objects.filter(secret__isnull=False)),
                [f"secret number {number}" for number in range(5)],
            )
            self.assertEqual(Credential.objects.get(kind="command").env, {"KEY": "value of the environment"})
        self.assertEqual((generations.current(), AuditEntry.objects.count()), (generation, entries))

    def test_a_run_that_was_cut_off_goes_on(self) -> None:
        swap, calls = encryption._swap, []

        def cut_off(*args: Any) -> bool:
            if len(calls) == 3:
                raise KeyboardInterrupt
            calls.append(args)
            return swap(*args)

        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW, *self.old]):
            with mock.patch.object(encryption, "_swap", cut_off), self.assertRaises(KeyboardInterrupt):
                reencrypt(batch=2)
            found = reencrypt(batch=2)
        self.assertEqual((found.renewed, found.done), (3, 3))

    def test_an_edit_meanwhile_is_never_overwritten(self) -> None:
        swap = encryption._swap
        edited = Credential.objects.filter(kind="hmac_secret").first()
        assert edited is not None

        def late(each: Any, key: Any, *args: Any) -> bool:
            if key == edited.pk:
                row = Credential.objects.get(pk=key)
                row.secret = "entered meanwhile"
                row.save()
            return swap(each, key, *args)

        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW, *self.old]):
            with mock.patch.object(encryption, "_swap", late):
                found = reencrypt()
        self.assertEqual((found.renewed, found.done, found.left), (5, 1, []))
        with override_settings(FIELD_ENCRYPTION_KEYS=[NEW]):
            self.assertEqual(Credential.objects.get(pk=edited.pk).secret, "entered meanwhile")
