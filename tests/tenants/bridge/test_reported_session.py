"""Tests of tenants.bridge.reported_session: the row of a session, and changes that are small."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from django.test import SimpleTestCase

from relay.config import Claims, HmacSecret, HmacSecretFile, PresignedToken
from tenants.bridge.reported_session import ReportedSession, is_small_change
from tenants.changes.fingerprints import fingerprint
from tests.support.registry import make_token

CLAIMS = Claims(hostnames=("app.example.com",), weight=2)


class ReportedSessionTests(SimpleTestCase):
    def setUp(self) -> None:
        self.session = ReportedSession(uuid.uuid4(), datetime(2026, 1, 1, tzinfo=UTC))

    def described(self, credential: Any = None, **changes: Any) -> dict[str, Any]:
        fields = {"node": "wss://n", "state": "up", "streams": 0, "claims": CLAIMS} | changes
        self.session.describe(7, fields, credential)
        assert self.session.state is not None
        return dict(self.session.state.fields)

    def test_secrets_appear_as_fingerprints_and_a_token_says_when_it_expires(self) -> None:
        token = make_token(exp=2_000_000_000)
        for credential, fields in (
            (PresignedToken(token), (fingerprint(token), datetime(2033, 5, 18, 3, 33, 20, tzinfo=UTC))),
            (HmacSecret("a secret"), (fingerprint("a secret"), None)),
            (HmacSecretFile("/etc/key"), ("", None)),
            (None, ("", None)),
        ):
            with self.subTest(type(credential).__name__):
                found = self.described(credential)
                self.assertEqual((found["fingerprint"], found["expires_at"]), fields)

    def test_an_instant_that_no_calendar_holds_is_left_out(self) -> None:
        token = make_token(exp=10**15)
        self.assertIsNone(self.described(PresignedToken(token))["expires_at"])

    def test_claims_are_made_once(self) -> None:
        first = self.described()["claims"]
        self.assertEqual((first["hostnames"], first["weight"]), (["app.example.com"], 2))
        self.assertIs(self.described(streams=3)["claims"], first)
        self.assertIsNot(self.described(claims=Claims(hostnames=("app.example.com",), weight=2))["claims"], first)

    def test_streams_and_state_are_small_changes(self) -> None:
        self.described()
        before = self.session.state
        for changes, small in (
            ({"streams": 5}, True),
            ({"state": "draining"}, True),
            ({"node": "wss://m"}, False),
            ({"claims": Claims()}, False),
        ):
            with self.subTest(changes):
                self.session.describe(7, {"node": "wss://n", "state": "up", "streams": 0, "claims": CLAIMS}, None)
                self.described(**changes)
                self.assertIs(is_small_change(before, self.session.state), small)
        self.assertFalse(is_small_change(None, before))
