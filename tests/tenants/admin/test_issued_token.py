"""Tests of the page that issues tokens: shown once, or put in place unseen."""

from __future__ import annotations

from django.urls import reverse

from tenants.models import AuditEntry, Credential, RelayUplink, TenantKey
from tenants.services.tokens import issue
from tenants.services.tokens.tenant_keys import rotate
from tests.tenants.admin.pages import AdminTestCase, page
from tests.tenants.services.tokens.reported import session_fields


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

    def test_a_kind_that_the_nodes_may_refuse_is_not_put_in_place_unsaid(self) -> None:
        self.client.force_login(self.owner)
        page = self.client.get(self.address)
        self.assertContains(page, "nodes that ask its sessions to attest refuse a pre-signed token")
        self.assertEqual(page.context["form"]["way"].value(), "show")
        self.assertContains(self.post(lifetime="30d", way="next"), "not one of the available choices")
        refused = self.post(lifetime="30d", way="install")
        self.assertContains(refused, "Switch this on to put it in place all the same.")
        self.assertEqual(Credential.objects.get(backend=self.backend).kind, "hmac_secret")
        self.assertEqual(AuditEntry.objects.filter(action="token issued").count(), 0)

    def test_put_beside_the_stored_one_until_a_node_has_taken_it(self) -> None:
        self.client.force_login(self.owner)
        issue.install(self.backend, issue.issue(self.backend))
        stored = Credential.objects.get(backend=self.backend)
        form = self.client.get(self.address).context["form"]
        self.assertEqual(list(form.fields), ["lifetime", "way"])
        self.assertEqual(form.fields["way"].choices[0][0], "next")
        shown = self.client.post(self.address, {"lifetime": "30d", "way": "next"}, follow=True)
        after = Credential.objects.get(backend=self.backend)
        self.assertEqual(after.secret, stored.secret)
        self.assertNotContains(shown, after.next_secret)
        address = self.backend.nodes.get().address
        self.assertContains(shown, f"Not taken yet at {address}. Until a node has taken it, the stored one is kept")
        trouble = {"backend": self.backend, "node": address, "state": "refused", "since": after.next_at}
        RelayUplink.objects.create(relay=session_fields(address)["relay"], problem="no such key.", **trouble)
        shown = self.client.get(shown.redirect_chain[-1][0])
        self.assertContains(shown, f"Not up with it at {address}: no such key. Until a node has taken it, the stored")
        self.backend.sessions.create(**session_fields(address, fingerprint=after.next_fingerprint))
        shown = self.client.get(page("change", self.backend))
        self.assertContains(shown, f"Taken at {address}. It takes the stored one&#x27;s place within minutes.")

    def test_put_in_place_unseen(self) -> None:
        self.client.force_login(self.owner)
        response = self.post(lifetime="30d", way="install", sure="on")
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
