"""Tests of tenants.services.config_import.state_changes: what differs, in words, with fingerprints for secrets."""

from __future__ import annotations

from relay.config import HmacSecret, HmacSecretFile, PresignedToken
from tenants.changes import generations
from tenants.models import (
    Backend,
    Credential,
)
from tests.relay.configfile.documents import token
from tests.tenants.services.config_import.importing import ChangeTestCase, backend, lines, run


class StateChangeTests(ChangeTestCase):
    def test_nothing(self) -> None:
        generation, changed = generations.current(), Backend.objects.get(name="edge").updated_at
        self.assertEqual(self.change(), [])
        self.assertEqual(generations.current(), generation)
        self.assertEqual(Backend.objects.get(name="edge").updated_at, changed)

    def test_credentials_are_told_apart_by_fingerprint(self) -> None:
        (words,) = self.change(credential=HmacSecret("another secret"))
        self.assertRegex(words, r"^credential HMAC secret [0-9a-f]{16} → HMAC secret [0-9a-f]{16}$")
        (words,) = self.change(credential=PresignedToken(token(hostnames=["edge.example.com"])))
        self.assertRegex(words, r"^credential HMAC secret [0-9a-f]{16} → token [0-9a-f]{16}$")
        self.assertEqual(Credential.objects.get(backend=self.backend).claims_hostnames, ["edge.example.com"])
        (words,) = self.change(credential=HmacSecretFile("/etc/key"))
        self.assertRegex(words, r"→ HMAC secret file /etc/key$")

    def test_a_credential_that_can_not_be_decrypted_is_replaced(self) -> None:
        with self.settings(FIELD_ENCRYPTION_KEYS=["bm90IHRoZSBrZXkgdGhhdCB3YXMgdXNlZCBiZWZvcmU="]):
            self.assertRegex(
                lines(run(backend()))[0],
                "credential HMAC secret one that cannot be decrypted → HMAC secret [0-9a-f]+$",
            )
            self.assertEqual(Credential.objects.get(backend=self.backend).secret, "secret of edge")
