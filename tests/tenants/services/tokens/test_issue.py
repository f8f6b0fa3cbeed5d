from __future__ import annotations

import io
import json
import time
from datetime import timedelta

import jwt
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import TestCase, override_settings
from django.utils import timezone

from tenants.models import AuditEntry, Credential, CredentialKind, PortClaim
from tenants.services.tokens import issue
from tenants.services.tokens.issue import CanNotIssue
from tenants.services.tokens.tenant_keys import rotate
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.services.tokens.reported import session_fields

ENVIRONMENT = {
    "NEXUS_ATTESTATION_STAGE": "reauth",
    "NEXUS_SESSION_NONCE": "n" * 43,
    "NEXUS_BACKEND_NAME": "edge",
    "NEXUS_HOSTNAMES": "app.example.com",
    "NEXUS_WEIGHT": "3",
    "NEXUS_TCP_PORTS": "",
    "NEXUS_UDP_ROUTES": "53:30",
    "NEXUS_OUTBOUND_ALLOWED": "false",
    "NEXUS_ALLOWED_OUTBOUND_PORTS": "",
}


class IssueCase(TestCase):
    """A backend whose tenant has a key."""

    def setUp(self) -> None:
        self.backend = make_served_backend(make_tenant(slug="acme"), "app.example.com", name="edge", weight=2)
        PortClaim.objects.create(backend=self.backend, transport="udp", public_port=53, flow_idle_timeout=30)
        PortClaim.objects.create(backend=self.backend, transport="tcp", public_port=853)
        self.key = rotate(self.backend.tenant)

    def read(self, token: str) -> dict:
        self.assertEqual(jwt.get_unverified_header(token), {"alg": "HS256", "typ": "JWT", "kid": self.key.kid})
        return jwt.decode(token, self.key.secret, algorithms=["HS256"], audience="nexus", issuer="authorizer")


class IssueTest(IssueCase):
    def test_says_what_the_backend_may_claim(self) -> None:
        issued = issue.issue(self.backend, ttl=900)
        claims = self.read(issued.token)
        self.assertEqual(claims["exp"] - claims["iat"], 900)
        self.assertLessEqual(abs(claims["exp"] - issued.expires_at.timestamp()), 1)
        self.assertEqual(claims.pop("jti"), issued.token_id)
        for name in ("exp", "iat"):
            del claims[name]
        self.assertEqual(
            claims,
            {
                "hostnames": ["app.example.com"],
                "weight": 2,
                "tcp_ports": [853],
                "udp_routes": [{"port": 53, "flow_idle_timeout_seconds": 30}],
                "iss": "authorizer",
                "aud": ["nexus"],
                "sub": "acme/edge",
            },
        )
        self.assertNotIn(issued.token, repr(issued))

    def test_is_on_record_without_the_token(self) -> None:
        issued = issue.issue(self.backend)
        entry = AuditEntry.objects.first()
        self.assertEqual((entry.action, entry.tenant_slug, entry.object_text), ("token issued", "acme", "acme/edge"))
        self.assertEqual(entry.changes["token"], issued.token_hash)
        self.assertNotIn(issued.token, json.dumps(entry.changes))

    @override_settings(PUBLIC_URL="https://admin.example.com", VERIFIER_SECRETS=["x" * 32])
    def test_carries_the_status_address(self) -> None:
        claims = self.read(issue.issue(self.backend).token)
        self.assertEqual(claims["authorizer_status_uri"], "https://admin.example.com/nexus/status")
        # A node refuses the whole session for one without TLS.
        with override_settings(PUBLIC_URL="http://admin.example.com"):
            self.assertEqual(issue.status_uri(), "")
            self.assertNotIn("authorizer_status_uri", self.read(issue.issue(self.backend).token))
            Credential.objects.filter(backend=self.backend).update(authorizer_status_uri="http://a.example")
            self.assertNotIn("authorizer_status_uri", self.read(issue.issue(self.backend).token))

    def test_needs_a_key_and_a_time(self) -> None:
        other = make_served_backend(make_tenant(slug="other"))
        with self.assertRaisesMessage(CanNotIssue, "The tenant other has no key to sign with"):
            issue.issue(other)
        with self.assertRaisesMessage(CanNotIssue, "not 0"):
            issue.issue(self.backend, ttl=0)

    def test_what_is_switched_off_gets_no_token(self) -> None:
        for row, said in ((self.backend, "The backend acme/edge is"), (self.backend.tenant, "The tenant acme is")):
            type(row).objects.filter(pk=row.pk).update(enabled=False)
            number = AuditEntry.objects.filter(action="token issued").count()
            for sign in (issue.issue, lambda backend: issue.attest(backend, {})):
                with self.assertRaisesMessage(CanNotIssue, f"{said} switched off"):
                    sign(self.backend)
            with self.assertRaisesMessage(CommandError, f"{said} switched off"):
                call_command("mint_token", "acme/edge", "--install-now", stdout=io.StringIO())
            self.assertEqual(AuditEntry.objects.filter(action="token issued").count(), number)
            type(row).objects.filter(pk=row.pk).update(enabled=True)
        self.read(issue.issue(self.backend).token)

    def test_installing_drops_what_was_planned_for_another_kind(self) -> None:
        credential = Credential.objects.get(backend=self.backend)
        credential.next_secret, credential.next_at = "another secret", timezone.now() + timedelta(days=1)
        credential.save()
        first = issue.install(self.backend, issue.issue(self.backend))
        self.assertEqual((first.next_secret, first.next_at), (None, None))
        first.next_secret, first.next_at = issue.issue(self.backend).token, timezone.now() + timedelta(days=1)
        first.save()
        self.assertIsNotNone(issue.install(self.backend, issue.issue(self.backend)).next_at)

    def test_installing_keeps_the_other_settings(self) -> None:
        Credential.objects.filter(backend=self.backend).update(reauth_interval=77)
        issued = issue.issue(self.backend)
        issue.install(self.backend, issued)
        stored = Credential.objects.get(backend=self.backend)
        self.assertEqual((stored.kind, stored.secret), (CredentialKind.PRESIGNED_TOKEN, issued.token))
        self.assertEqual(stored.reauth_interval, 77)

    def test_a_token_is_put_beside_the_stored_one_of_its_kind_only(self) -> None:
        def refused(said: str) -> None:
            self.assertIn(said, issue.refuses_next(self.backend))
            with self.assertRaisesMessage(CanNotIssue, said):
                issue.install_next(self.backend, issue.issue(self.backend))

        refused("nodes that ask its sessions to attest refuse a pre-signed token")
        Credential.objects.all().delete()
        refused("no token yet")
        stored = issue.install(self.backend, issue.issue(self.backend))
        issued = issue.issue(self.backend)
        after = issue.install_next(self.backend, issued)
        self.assertEqual((after.secret, after.next_secret), (stored.secret, issued.token))
        self.assertTrue(after.next_serves())
        refused("planned already")

    def test_it_is_said_where_nodes_may_refuse_a_token(self) -> None:
        self.assertIn("The backend attests to its nodes so far (HMAC secret)", issue.doubts(self.backend))
        Credential.objects.all().delete()
        self.assertEqual(issue.doubts(self.backend), "")
        address = self.backend.nodes.get().address
        other = make_served_backend()
        self.assertNotEqual(other.tenant_id, self.backend.tenant_id)
        other.sessions.create(**session_fields(address, dialect="attested"))
        self.assertEqual(issue.doubts(self.backend), "", "another tenant's sessions say nothing")
        self.backend.sessions.create(**session_fields(address, dialect="attested"))
        self.assertIn(f"Sessions attest at {address}", issue.doubts(self.backend))
        self.backend.sessions.create(**session_fields(address, dialect="token"))
        self.assertEqual(issue.doubts(self.backend), "")

    def test_times(self) -> None:
        for text, wanted in (("45", 45), ("30m", 1800), ("12H", 43200), ("90d", 7776000)):
            self.assertEqual(issue.seconds(text), wanted)
        for text in ("", "d", "-1", "1.5h", "١"):
            with self.assertRaises(ValidationError):
                issue.seconds(text)

    # -- the attestation command

    def test_attests_what_the_environment_claims(self) -> None:
        claims = self.read(issue.attest(self.backend, ENVIRONMENT).token)
        self.assertEqual(claims["session_nonce"], "n" * 43)
        self.assertEqual(claims["weight"], 3)
        self.assertEqual(claims["udp_routes"], [{"port": 53, "flow_idle_timeout_seconds": 30}])
        self.assertNotIn("tcp_ports", claims)
        self.assertLessEqual(claims["exp"] - time.time(), 31)

    def test_attests_all_where_the_environment_says_nothing(self) -> None:
        claims = self.read(issue.attest(self.backend, {}).token)
        self.assertEqual(claims["tcp_ports"], [853])
        self.assertNotIn("session_nonce", claims)

    def test_attests_nothing_beyond_the_backend(self) -> None:
        for changes, said in (
            (
                {"NEXUS_HOSTNAMES": "app.example.com,*.example.com"},
                r"hostname *.example.com is not one of the backend's",
            ),
            ({"NEXUS_TCP_PORTS": "853,22"}, "TCP port 22 is not claimed"),
            ({"NEXUS_UDP_ROUTES": "67"}, "UDP port 67 is not claimed"),
            ({"NEXUS_OUTBOUND_ALLOWED": "true"}, "outbound is not allowed"),
            ({"NEXUS_WEIGHT": "0"}, "weight 0"),
            ({"NEXUS_WEIGHT": "much"}, "NEXUS_WEIGHT is not what the protocol has"),
            ({"NEXUS_SESSION_NONCE": ""}, "must hold the node's nonce"),
            ({"NEXUS_ATTESTATION_STAGE": "lunch"}, "handshake, attest or reauth"),
            ({"NEXUS_HOSTNAMES": "", "NEXUS_UDP_ROUTES": ""}, "neither hostnames nor ports"),
        ):
            with self.subTest(changes), self.assertRaisesMessage(CanNotIssue, said):
                issue.attest(self.backend, ENVIRONMENT | changes)
