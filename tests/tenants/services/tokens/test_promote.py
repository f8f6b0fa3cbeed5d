"""Tests of tenants.services.tokens.promote, and of a credential's next secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import time_machine
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import TestCase, override_settings

from tenants.bridge.snapshot import backend_key, load_all
from tenants.changes import generations
from tenants.changes.actor import acting
from tenants.models import Credential, CredentialUse
from tenants.services.tokens import promote
from tests.support.registry import make_served_backend, make_token

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AT = NOW + timedelta(hours=1)


class RotationTests(TestCase):
    def setUp(self) -> None:
        self.old, self.new = (make_token(hostnames=[name]) for name in ("app.example.com", "b.example.com"))
        self.backend = make_served_backend(hostname="app.example.com")
        with time_machine.travel(NOW, tick=False), acting(name="ann"):
            self.credential = self.backend.credential
            self.credential.kind, self.credential.secret = "presigned_token", self.old
            self.credential.save()

    def plan(self) -> None:
        with time_machine.travel(NOW, tick=False), acting(name="bob"):
            self.credential.next_secret, self.credential.next_at = self.new, AT
            self.credential.save()

    def use(self, fingerprint: str) -> None:
        """Have a node take the secret of this fingerprint."""
        fields = {"used_at": AT, "relay": "r", "node": "wss://n/connect", "fingerprint": fingerprint}
        CredentialUse.objects.update_or_create(backend=self.backend, defaults=fields)

    def serving(self, instant: datetime) -> str:
        with time_machine.travel(instant, tick=False):
            return load_all().backends[backend_key(self.backend.pk)].credential.token

    def test_it_is_known_who_put_what_here(self) -> None:
        self.plan()
        credential = Credential.objects.get()
        self.assertEqual((credential.secret_set_at, credential.secret_set_by), (NOW, "ann"))
        self.assertEqual((credential.next_set_by, credential.next_claims["hostnames"]), ("bob", ["b.example.com"]))
        self.assertEqual(credential.claims["hostnames"], ["app.example.com"])
        self.assertNotIn(credential.next_fingerprint, ("", credential.fingerprint))
        credential.token_ttl = 77
        with acting(name="eve"):
            credential.save()
        self.assertEqual(Credential.objects.get().secret_set_by, "ann")

    def test_the_clock_decides_which_one_serves(self) -> None:
        self.plan()
        second = timedelta(seconds=1)
        self.assertEqual([self.serving(at) for at in (AT - second, AT, AT + second)], [self.old, self.new, self.new])

    def test_the_row_is_tidied_after_the_instant_and_nothing_changes_for_relays(self) -> None:
        self.plan()
        with time_machine.travel(AT - timedelta(seconds=1), tick=False):
            self.assertEqual(promote.take_turns(), "")
        before = generations.current()
        with time_machine.travel(AT + timedelta(hours=1), tick=False):
            self.assertEqual(promote.take_turns(), "")  # no node has taken it
            self.use(self.credential.fingerprint)
            self.assertEqual(promote.take_turns(), "")
            self.use(self.credential.next_fingerprint)
            config = load_all().backends
            self.assertEqual(promote.take_turns(), "1 credentials took their turn")
            self.assertEqual(load_all().backends, config)
            self.assertEqual(promote.take_turns(), "")
        self.assertEqual(generations.current(), before + 1)
        credential = Credential.objects.get()
        self.assertEqual((credential.secret, credential.next_secret, credential.next_at), (self.new, None, None))
        self.assertEqual((credential.secret_set_at, credential.secret_set_by), (AT, "bob"))
        self.assertEqual((credential.next_fingerprint, credential.next_claims, credential.next_set_by), ("", {}, ""))

    def test_until_a_node_has_taken_it_dropping_it_is_the_way_back(self) -> None:
        self.plan()
        with time_machine.travel(AT + timedelta(days=1), tick=False):
            promote.take_turns()
            credential = Credential.objects.get()
            credential.next_secret = credential.next_at = None
            credential.save()
        self.assertEqual(self.serving(AT + timedelta(days=1)), self.old)

    def test_nothing_waits_for_a_node_once_the_stored_one_has_ended(self) -> None:
        self.plan()
        Credential.objects.update(claims_expires_at=AT + timedelta(hours=1))
        with time_machine.travel(AT + timedelta(minutes=59), tick=False):
            self.assertEqual(promote.take_turns(), "")
        with time_machine.travel(AT + timedelta(hours=1), tick=False):
            self.assertEqual(promote.take_turns(), "1 credentials took their turn")

    def test_secrets_without_their_key_take_their_turn_sealed(self) -> None:
        self.plan()
        self.use(self.credential.next_fingerprint)
        with time_machine.travel(AT, tick=False):
            with override_settings(FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
                promote.take_turns()
            self.assertEqual(Credential.objects.get().secret, self.new)

    def test_a_next_secret_and_its_instant_go_together(self) -> None:
        for fields, name in (({"next_secret": self.new}, "next_at"), ({"next_at": AT}, "next_secret")):
            credential = Credential.objects.get()
            for field, value in fields.items():
                setattr(credential, field, value)
            with self.assertRaises(ValidationError) as caught:
                credential.save()
            self.assertEqual(list(caught.exception.message_dict), [name])
        with self.assertRaises(IntegrityError), transaction.atomic():
            Credential.objects.filter(pk=self.credential.pk).update(updated_at=AT)
            super(type(Credential.objects.all()), Credential.objects.all()).update(next_at=AT)

    def test_a_bad_next_token_is_refused_without_showing_it(self) -> None:
        credential = Credential.objects.get()
        credential.next_secret, credential.next_at = "no-token-at-all", AT
        with self.assertRaises(ValidationError) as caught:
            credential.save()
        self.assertIn("next_secret", caught.exception.message_dict)
        self.assertNotIn("no-token-at-all", str(caught.exception))

    def test_another_kind_has_no_next_one(self) -> None:
        self.plan()
        credential = Credential.objects.get()
        credential.kind, credential.command = "command", "/bin/attest"
        credential.save()
        stored = Credential.objects.get()
        kept = (stored.next_secret, stored.next_at, stored.claims, stored.valid_until)
        self.assertEqual(kept, (None, None, {}, None))
