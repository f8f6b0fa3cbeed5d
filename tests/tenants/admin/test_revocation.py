"""Tests of the pages of revocations."""

from __future__ import annotations

import hashlib

from django.urls import reverse

from tenants.models import Revocation
from tenants.services.tokens import issue
from tenants.services.tokens.tenant_keys import rotate
from tests.tenants.admin.pages import AdminTestCase, fields_of, page


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
