"""What a credential derives from its secret, and what of it is checked."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.test import TestCase, override_settings

from tenants.models import (
    Backend,
    Credential,
    CredentialKind,
)
from tests.support.registry import make_backend, make_served_backend, make_token


class CredentialTests(TestCase):
    def make(self, **fields: Any) -> Credential:
        return Credential.objects.create(backend=make_backend(), **fields)

    def test_claims_and_fingerprint_are_kept_beside_a_token(self) -> None:
        token = make_token(exp=2_000_000_000, hostnames=["app.example.com", "*.x.example.com"])
        credential = self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=f" {token}\n")
        credential.refresh_from_db()
        self.assertEqual(credential.secret, token)
        self.assertEqual(credential.claims_expires_at.timestamp(), 2_000_000_000)
        self.assertEqual(credential.claims_hostnames, ["app.example.com", "*.x.example.com"])
        self.assertRegex(credential.fingerprint, r"^[0-9a-f]{16}$")
        old = credential.fingerprint
        credential.secret = make_token(hostname="app.example.com")
        credential.save(update_fields=["secret"])
        credential.refresh_from_db()
        self.assertNotEqual(credential.fingerprint, old)
        self.assertEqual((credential.claims_expires_at, credential.claims_hostnames), (None, ["app.example.com"]))

    def test_what_stands_in_mails_tokens_and_files_is_one_line(self) -> None:
        backend = make_backend()
        for text in ("x\r\nHost: y", "x\n", "\u202ex", "x\u2028y"):
            for row, name in (
                (Credential(backend=backend, kind=CredentialKind.TENANT_KEY), "authorizer_status_uri"),
                (Credential(backend=backend, kind=CredentialKind.TENANT_KEY), "policy_version"),
                (Backend(tenant=backend.tenant), "name"),
            ):
                setattr(row, name, text)
                with self.subTest(name=name, text=text), self.assertRaisesMessage(ValidationError, "write one line"):
                    row.full_clean()

    def test_the_status_address_is_one_that_nodes_take(self) -> None:
        credential = Credential(backend=make_backend(), kind=CredentialKind.HMAC_SECRET, secret="x" * 32)
        credential.authorizer_status_uri = "http://a.example/status"
        with self.assertRaisesMessage(ValidationError, "is not an https:// address: write https://HOST/PATH") as caught:
            credential.full_clean()
        self.assertEqual(list(caught.exception.message_dict), ["authorizer_status_uri"])
        credential.authorizer_status_uri = "https://a.example/status"
        credential.full_clean()

    def test_an_expiry_that_no_calendar_holds_is_no_error(self) -> None:
        for exp in (10**30, -(10**30), 1e300):
            credential = self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=make_token(exp=exp, hostnames=[]))
            self.assertIsNone(credential.claims_expires_at)

    def test_what_is_no_token_is_refused_without_showing_it(self) -> None:
        for text in ("hunter2", "a.b.c", "eyJ.hunter2.x", "..", "hunter2." * 3):
            with self.subTest(text), self.assertRaises(ValidationError) as caught:
                self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=text)
            self.assertIn("secret", caught.exception.message_dict)
            self.assertNotIn("hunter2", str(caught.exception))

    def test_a_secret_is_needed(self) -> None:
        for secret in (None, "", "  "):
            for kind in (CredentialKind.HMAC_SECRET, CredentialKind.PRESIGNED_TOKEN):
                with self.assertRaises(ValidationError):
                    self.make(kind=kind, secret=secret)

    def test_equal_secrets_have_equal_fingerprints_that_depend_on_the_key(self) -> None:
        one, two = (self.make(kind=CredentialKind.HMAC_SECRET, secret="password1") for _ in range(2))
        self.assertEqual(one.fingerprint, two.fingerprint)
        with override_settings(SECRET_KEY="another" * 10):
            self.assertNotEqual(self.make(kind="hmac_secret", secret="password1").fingerprint, one.fingerprint)

    def test_another_kind_leaves_nothing_of_the_old_one(self) -> None:
        credential = self.make(kind=CredentialKind.HMAC_SECRET, secret="x" * 32)
        credential.kind, credential.command, credential.args = CredentialKind.COMMAND, "/bin/true", ["-a", "b"]
        credential.env = {"B": "1", "A": "2"}
        credential.save()
        credential.refresh_from_db()
        self.assertIsNone(credential.secret)
        self.assertEqual(
            (credential.fingerprint, credential.args, credential.env), ("", ["-a", "b"], {"B": "1", "A": "2"})
        )
        credential.kind, credential.secret_file = CredentialKind.HMAC_SECRET_FILE, "/etc/nexus/key"
        credential.save()
        credential.refresh_from_db()
        self.assertEqual((credential.command, credential.args, credential.env), ("", [], None))

    def test_texts_hold_no_secret(self) -> None:
        backend = make_served_backend()
        for row in (
            backend,
            backend.credential,
            backend.tenant,
            *backend.node_links.all(),
            *backend.hostname_links.all(),
        ):
            self.assertNotIn("not so secret", f"{row} {row!r}")
