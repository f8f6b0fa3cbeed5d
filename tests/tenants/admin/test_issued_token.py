"""Tests of the page that issues tokens: shown once, or put in place unseen."""

from __future__ import annotations

from django.urls import reverse

from tenants.models import AuditEntry, Credential, TenantKey
from tenants.services.tokens.tenant_keys import rotate
from tests.tenants.admin.pages import AdminTestCase, page


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
