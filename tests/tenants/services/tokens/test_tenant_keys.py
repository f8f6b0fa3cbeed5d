from __future__ import annotations

from datetime import timedelta

from django.core.exceptions import FieldError, ValidationError
from django.db import connection
from django.test import TestCase
from django.utils import timezone

from relay.config import HmacSecret
from tenants import housekeeping
from tenants.bridge.snapshot import load_all
from tenants.changes import generations
from tenants.models import Backend, Credential, CredentialKind, KeyState, Revocation, TenantKey
from tenants.services.tokens.tenant_keys import revoke, rotate, signing_key
from tests.support.registry import make_served_backend, make_tenant


class TenantKeyTest(TestCase):
    def setUp(self) -> None:
        self.tenant = make_tenant(slug="acme")

    def test_a_key_is_made_where_none_is_entered(self) -> None:
        one, other = rotate(self.tenant), rotate(self.tenant)
        self.assertGreaterEqual(len(one.secret.encode()), 48)
        self.assertNotEqual(one.secret, other.secret)
        self.assertNotEqual(one.kid, other.kid)

    def test_the_secret_is_encrypted(self) -> None:
        key = rotate(self.tenant, secret="entered-" * 5)
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM tenants_tenantkey")
            row = repr(cursor.fetchone())
        self.assertNotIn("entered-", row)
        self.assertEqual(TenantKey.objects.get().secret, "entered-" * 5)
        self.assertNotIn("entered-", repr(key) + str(key))

    def test_a_short_secret_is_refused(self) -> None:
        with self.assertRaisesMessage(ValidationError, "31 bytes, and HS256 needs 32"):
            rotate(self.tenant, secret="x" * 31)
        self.assertEqual(TenantKey.objects.count(), 0)

    def test_rotation_lets_the_old_one_be_accepted_for_a_while(self) -> None:
        old = rotate(self.tenant)
        other_tenants = rotate(make_tenant())
        new = rotate(self.tenant, overlap=timedelta(hours=2))
        old.refresh_from_db()
        other_tenants.refresh_from_db()
        self.assertEqual(old.state(), KeyState.RETIRING)
        self.assertEqual(old.state(timezone.now() + timedelta(hours=3)), KeyState.RETIRED)
        self.assertEqual(other_tenants.state(), KeyState.ACTIVE)
        self.assertEqual(signing_key(self.tenant), new)

    def test_a_key_is_never_changed_and_stays_revoked(self) -> None:
        key = rotate(self.tenant)
        key.secret = "another-secret-of-thirty-two-bytes"
        with self.assertRaisesMessage(ValidationError, "never changed"):
            key.save()
        key.refresh_from_db()
        key.tenant = make_tenant()
        with self.assertRaisesMessage(ValidationError, "never changed"):
            key.save()
        key.refresh_from_db()
        revoke(key, "it leaked")
        key.revoked_at = None
        key.revoked_because = ""
        with self.assertRaisesMessage(ValidationError, "stays revoked"):
            key.save()
        with self.assertRaises(FieldError):
            TenantKey.objects.update(revoked_at=None)

    def test_every_change_is_the_tenants(self) -> None:
        before = generations.current()
        key = rotate(self.tenant)
        self.assertEqual(generations.changes_since(before).tenants, {self.tenant.pk})
        before = generations.current()
        revoke(key)
        self.assertEqual(generations.changes_since(before).tenants, {self.tenant.pk})
        before = generations.current()
        Revocation.objects.create(tenant=self.tenant, token_id="a")
        self.assertEqual(generations.changes_since(before).tenants, {self.tenant.pk})


class RevocationTest(TestCase):
    def test_names_one_token(self) -> None:
        tenant = make_tenant()
        for fields in ({}, {"token_id": "a", "token_hash": "0" * 64}):
            with self.assertRaisesMessage(ValidationError, "one of the two"):
                Revocation(tenant=tenant, **fields).full_clean()
        with self.assertRaisesMessage(ValidationError, "not a SHA-256"):
            Revocation(tenant=tenant, token_hash="abc").full_clean()
        kept = Revocation.objects.create(tenant=tenant, token_hash=" " + "AB" * 32)
        self.assertEqual(kept.token_hash, "ab" * 32)

    def test_the_expired_are_forgotten(self) -> None:
        tenant, now = make_tenant(), timezone.now()
        for name, days in (("old", -2), ("just now", 0), ("to come", 2)):
            Revocation.objects.create(tenant=tenant, token_id=name, expires_at=now + timedelta(days=days))
        Revocation.objects.create(tenant=tenant, token_id="for ever")
        self.assertEqual(housekeeping.job("revocations").run(), "1 revocations of expired tokens forgotten")
        self.assertEqual(Revocation.objects.filter(token_id="old").count(), 0)
        self.assertEqual(Revocation.objects.count(), 3)
        self.assertEqual(housekeeping.job("revocations").run(), "")


class BridgeTest(TestCase):
    """The relay signs with the tenant's newest active key."""

    def setUp(self) -> None:
        self.backend = make_served_backend(make_tenant(slug="acme"), "app.example.com")
        Credential.objects.filter(backend=self.backend).delete()
        Credential.objects.create(backend=self.backend, kind=CredentialKind.TENANT_KEY, reauth_interval=60)

    def config(self):
        return load_all().backends[f"backend:{self.backend.pk}"]

    def test_the_newest_active_key(self) -> None:
        self.assertIsNone(self.config().credential)
        rotate(self.backend.tenant)
        rotate(make_tenant())
        claims = self.config().claims
        new = rotate(self.backend.tenant)
        self.assertEqual(self.config().credential, HmacSecret(new.secret, new.kid))
        self.assertEqual(self.config().claims, claims)
        self.assertEqual(self.config().attestation.reauth_interval, 60)
        revoke(new)
        self.assertIsNone(self.config().credential)

    def test_a_key_that_can_not_be_decrypted_is_that_tenants_trouble(self) -> None:
        rotate(self.backend.tenant)
        other = make_served_backend(make_tenant(), "other.example.com")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_tenantkey SET secret = 'broken'")
        problems: list = []
        found = load_all(report=problems.append).backends
        self.assertEqual(list(found), [f"backend:{other.pk}"])
        self.assertIn("tenants.TenantKey.secret", problems[0].message)

    def test_queries(self) -> None:
        rotate(self.backend.tenant)
        for _ in range(5):
            tenant = make_tenant()
            rotate(tenant)
            backend = make_served_backend(tenant)
            Credential.objects.filter(backend=backend).delete()
            Credential.objects.create(backend=backend, kind=CredentialKind.TENANT_KEY)
        with self.assertNumQueries(10):
            found = load_all().backends
        self.assertEqual(len(found), Backend.objects.count())
