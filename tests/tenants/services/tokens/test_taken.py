"""Tests of tenants.services.tokens.taken."""

from __future__ import annotations

from datetime import timedelta

from django.test import TestCase
from django.utils import timezone

from tenants.models import CredentialUse, RelayProcess, RelayUplink
from tenants.services.tokens.taken import taken
from tests.support.registry import make_node, make_served_backend, make_token
from tests.tenants.services.tokens.reported import session_fields


class TakenTests(TestCase):
    def setUp(self) -> None:
        self.backend = make_served_backend()
        self.backend.nodes.add(make_node())
        self.first, self.second = sorted(self.backend.nodes.values_list("address", flat=True))
        credential = self.credential = self.backend.credential
        credential.kind, credential.secret = "presigned_token", make_token(hostnames=["a.example.com"])
        credential.next_secret, credential.next_at = make_token(hostnames=["b.example.com"]), timezone.now()
        credential.save()

    def assertTaken(self, *nodes: str) -> None:
        found = taken(self.credential)
        self.assertEqual(found.at, nodes)
        self.assertEqual({*found.at, *found.not_at}, {self.first, self.second})

    def test_by_live_sessions_and_by_the_last_use(self) -> None:
        self.backend.sessions.create(**session_fields(self.first, fingerprint=self.credential.fingerprint))
        self.assertTaken()
        self.backend.sessions.create(**session_fields(self.first, fingerprint=self.credential.next_fingerprint))
        self.assertTaken(self.first)
        fields = {"used_at": timezone.now(), "relay": "r", "node": self.second}
        CredentialUse.objects.create(backend=self.backend, fingerprint=self.credential.next_fingerprint, **fields)
        self.assertTaken(self.first, self.second)
        RelayProcess.objects.update(expires_at=timezone.now() - timedelta(days=1))
        self.assertTaken(self.second)

    def test_what_a_relay_says_of_a_node_that_refuses_it(self) -> None:
        session = session_fields(self.first, fingerprint=self.credential.next_fingerprint)
        self.backend.sessions.create(**session)
        for node in (self.first, self.second):
            RelayUplink.objects.create(
                relay=session["relay"], backend=self.backend, node=node, state="refused", problem="no such key",
                since=timezone.now(),
            )  # fmt: skip
        found = taken(self.credential)
        self.assertEqual((found.at, found.refused, found.not_at), ((self.first,), ((self.second, "no such key"),), ()))

    def test_other_backends_sessions_say_nothing(self) -> None:
        other = make_served_backend()
        other.sessions.create(**session_fields(self.first, fingerprint=self.credential.next_fingerprint))
        self.assertTaken()
