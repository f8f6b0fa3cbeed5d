"""Keys, revocations and issued tokens in the admin."""

from __future__ import annotations

from datetime import timedelta

from django.urls import reverse
from django.utils import timezone

from tenants.models import KeyState, TenantKey
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
