"""Keys, revocations and issued tokens in the admin."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.urls import reverse
from django.utils import timezone

from tenants.models import AuditEntry, Credential, KeyState, Revocation, TenantKey
from tenants.services.tokens import issue
from tenants.services.tokens.tenant_keys import rotate
from tests.tenants.admin.pages import AdminTestCase, fields_of, page

ENTERED = "an-entered-secret-of-more-than-32-bytes"


class TenantKeyPageTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.owner)
        self.foreign_key = rotate(self.other)

    def add(self, **fields):
        address = reverse("admin:tenants_tenantkey_add")
        return self.client.post(address, fields_of(self.client.get(address)) | fields)

    def change(self, key, **fields):
        return self.client.post(page("change", key), fields_of(self.client.get(page("change", key))) | fields)

    def test_a_new_key_signs_and_the_old_one_retires(self) -> None:
        self.assertSaved(self.add())
        old = TenantKey.objects.get(tenant=self.acme)
        self.assertSaved(self.add(secret=ENTERED, overlap="2"))
        new = TenantKey.objects.exclude(pk=old.pk).get(tenant=self.acme)
        old.refresh_from_db()
        self.assertEqual((old.state(), new.state()), (KeyState.RETIRING, KeyState.ACTIVE))
        self.assertLess(abs(old.accepted_until - timezone.now() - timedelta(hours=2)), timedelta(minutes=1))
        for address in (page("change", new), page("changelist", new), page("change", old)):
            self.assertNotContains(self.client.get(address), ENTERED)
        self.foreign_key.refresh_from_db()
        self.assertEqual(self.foreign_key.state(), KeyState.ACTIVE)

    def test_a_short_secret_is_refused_at_its_field(self) -> None:
        response = self.add(secret="short")
        form = response.context["adminform"].form
        self.assertIn("5 bytes, and HS256 needs 32", form.errors["secret"][0])
        self.assertNotContains(response, 'value="short"')

    def test_revoking(self) -> None:
        key = rotate(self.acme)
        refused = self.change(key, revoked_because="no switch")
        self.assertIn("revoked_because", refused.context["adminform"].form.errors)
        self.assertSaved(self.change(key, revoke="on", revoked_because="it leaked"))
        key.refresh_from_db()
        self.assertEqual((key.state(), key.revoked_because), (KeyState.REVOKED, "it leaked"))
        self.client.post(page("change", key), {"revoked_because": "", "accepted_until_0": "", "revoke": ""})
        key.refresh_from_db()
        self.assertEqual((key.state(), key.revoked_because), (KeyState.REVOKED, "it leaked"))

    def test_the_last_key_does_not_retire_by_itself(self) -> None:
        key = rotate(self.acme)
        response = self.change(key, accepted_until_0="2030-01-01", accepted_until_1="00:00:00")
        self.assertIn("No other key would sign", str(response.context["adminform"].form.errors))
        rotate(self.acme)
        self.assertSaved(self.change(key, accepted_until_0="2030-01-01", accepted_until_1="00:00:00"))

    def test_who_may(self) -> None:
        key = rotate(self.acme)
        for user, status in ((self.owner, 200), (self.operator, 200)):
            self.client.force_login(user)
            self.assertEqual(self.client.get(page("change", key)).status_code, status)
        for user in (self.editor, self.viewer, self.stranger, self.nobody):
            self.client.force_login(user)
            self.assertIn(self.client.get(page("change", key)).status_code, (302, 403))
            self.client.post(page("change", key), {"revoke": "on"})
        key.refresh_from_db()
        self.assertEqual(key.state(), KeyState.ACTIVE)
        self.client.force_login(self.owner)
        self.client.post(page("delete", key), {"post": "yes"})
        self.assertTrue(TenantKey.objects.filter(pk=key.pk).exists())
        response = self.add(tenant=str(self.other.pk))
        self.assertEqual(response.status_code, 200)
        self.assertEqual(TenantKey.objects.filter(tenant=self.other).count(), 1)


class RevocationPageTest(AdminTestCase):
    def test_a_pasted_token_is_kept_as_its_digest(self) -> None:
        rotate(self.acme)
        issued = issue.issue(self.backend)
        self.client.force_login(self.owner)
        address = reverse("admin:tenants_revocation_add")
        given = fields_of(self.client.get(address))
        refused = self.client.post(address, given | {"token": "no token"})
        self.assertIn("is not a JWT", refused.context["adminform"].form.errors["token"][0])
        refused = self.client.post(address, given)
        self.assertIn("one of the two", str(refused.context["adminform"].form.errors))
        self.assertSaved(self.client.post(address, given | {"token": issued.token, "reason": "lost"}))
        kept = Revocation.objects.get()
        self.assertEqual(kept.token_hash, hashlib.sha256(issued.token.encode()).hexdigest())
        self.assertEqual(kept.expires_at, issued.expires_at)
        self.client.post(page("delete", kept), {"post": "yes"})
        self.assertTrue(Revocation.objects.exists())
        self.client.force_login(self.operator)
        self.client.post(page("delete", kept), {"post": "yes"})
        self.assertFalse(Revocation.objects.exists())


class IssueTokenPageTest(AdminTestCase):
    def setUp(self) -> None:
        self.key = rotate(self.acme)
        self.address = reverse("admin:tenants_backend_issue_token", args=[self.backend.pk])

    def test_the_page_leads_there(self) -> None:
        self.client.force_login(self.owner)
        self.assertContains(self.client.get(page("change", self.backend)), "issue-token")
        self.client.force_login(self.editor)
        self.assertNotContains(self.client.get(page("change", self.backend)), "issue-token")

    def post(self, **fields):
        self.assertEqual(self.client.get(self.address).status_code, 200)
        return self.client.post(self.address, fields)

    def test_shown_once(self) -> None:
        self.client.force_login(self.owner)
        response = self.post(lifetime="12h", way="show")
        issued = response.context["issued"]
        self.assertContains(response, issued.token)
        self.assertIn("no-store", response.headers["Cache-Control"])
        self.assertEqual(AuditEntry.objects.filter(action="token issued").count(), 1)
        for address in (page("change", self.backend), page("history", self.backend)):
            self.assertNotContains(self.client.get(address), issued.token)
        self.assertNotEqual(Credential.objects.get(backend=self.backend).kind, "presigned_token")

    def test_put_in_place_unseen(self) -> None:
        self.client.force_login(self.owner)
        response = self.post(lifetime="30d", way="install")
        self.assertEqual(response.status_code, 302)
        stored = Credential.objects.get(backend=self.backend)
        self.assertEqual(stored.kind, "presigned_token")
        self.assertNotContains(self.client.get(response["Location"]), stored.secret)

    def test_errors(self) -> None:
        self.client.force_login(self.owner)
        self.assertContains(self.post(lifetime="soon", way="show"), "is no time")
        self.assertContains(self.post(lifetime="0", way="show"), "can be valid from 1 to")
        TenantKey.objects.all().delete()
        self.assertContains(self.post(lifetime="1d", way="show"), "has no key to sign with")
        self.assertEqual(AuditEntry.objects.filter(action="token issued").count(), 0)

    def test_who_may(self) -> None:
        for user in (self.editor, self.viewer, self.stranger, self.nobody):
            self.client.force_login(user)
            for key in (self.backend.pk, self.foreign.pk if user != self.stranger else self.backend.pk, 987654, "x"):
                address = f"/admin/tenants/backend/{key}/issue-token/"
                self.assertIn(self.client.post(address, {"lifetime": "1d", "way": "show"}).status_code, (403, 404))
        self.assertEqual(AuditEntry.objects.filter(action="token issued").count(), 0)
