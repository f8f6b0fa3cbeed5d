"""Tests of the pages of hostnames."""

from __future__ import annotations

from django.test import override_settings

from tenants.models import CredentialKind, Hostname
from tenants.rules import ownership
from tests.support.registry import make_backend, make_token
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class HostnamePageTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.operator)
        self.bare = make_backend(self.acme, name="bare", enabled=False)
        self.spare = Hostname.objects.create(tenant=self.acme, name="spare.example.com")

    def test_a_hostname_that_a_token_lacks_is_a_warning_on_the_hostnames_page_too(self) -> None:
        credential = self.backend.credential
        token = make_token(hostnames=["app.example.com"], exp=4_000_000_000)
        credential.kind, credential.secret = CredentialKind.PRESIGNED_TOKEN, token
        credential.save()
        data = {
            "name": "spare.example.com",
            "backend_links-TOTAL_FORMS": 1,
            "backend_links-INITIAL_FORMS": 0,
            "backend_links-0-backend": self.backend.pk,
        }
        response = self.client.post(page("change", self.spare), data, follow=True)
        self.assertContains(response, "The token does not claim spare.example.com")


class OptionalDomainsTest(AdminTestCase):
    def test_without_the_rule_members_add_any_free_name(self) -> None:
        self.client.force_login(self.editor)
        given = {"tenant": self.acme.pk, "name": "free.example.org"}
        self.assertIn("name", errors_of(self.client.post(page("add", Hostname), given)))
        with override_settings(REQUIRE_DOMAINS=False):
            self.assertSaved(self.client.post(page("add", Hostname), given))
            for name in ("*.co.uk", "github.io"):
                suffix = self.client.post(page("add", Hostname), {**given, "name": name})
                self.assertEqual(errors_of(suffix)["name"], [ownership.NO_DOMAIN])
            taken = self.client.post(page("add", Hostname), {**given, "name": "secluded.example.net"})
            self.assertIn("taken", errors_of(taken)["name"][0])
        own = Hostname.objects.get(name="free.example.org")
        renamed = {**fields_of(self.client.get(page("change", own))), "name": "freer.example.org"}
        self.assertEqual(errors_of(self.client.post(page("change", own), renamed))["name"], [ownership.NO_DOMAIN])
        self.client.force_login(self.operator)
        self.assertSaved(self.client.post(page("add", Hostname), {**given, "name": "operators.example.org"}))
