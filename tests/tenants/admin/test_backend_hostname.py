"""Tests of the hostnames on a backend's page, and of what they say about names that others have."""

from __future__ import annotations

from typing import Any

from tenants.models import (
    Hostname,
    HostnameGrant,
)
from tenants.rules import ownership
from tests.tenants.admin.pages import AdminTestCase, errors_of, page

HIDDEN = ("secluded", "Other Company", "stranger")


class BackendHostnameTest(AdminTestCase):
    def assertHidden(self, response: Any) -> None:
        text = response.content.decode(errors="replace")
        # Not assertNotIn, which would print the whole page.
        self.assertEqual([word for word in HIDDEN if word in text], [])

    def test_whether_others_have_a_hostname_is_not_told(self) -> None:
        self.client.force_login(self.editor)
        given = {**self.open(self.backend), "hostname_links-TOTAL_FORMS": 2}
        for name in ("secluded.example.net", "nobodys.example.net", "*.example.net"):
            alone = self.client.post(page("add", Hostname), {"tenant": self.acme.pk, "name": name})
            self.assertEqual(errors_of(alone)["name"], [ownership.NO_DOMAIN])
            served = self.client.post(page("change", self.backend), {**given, "hostname_links-1-name": name})
            self.assertEqual(errors_of(served)["hostname_links-1-name"], [ownership.NO_DOMAIN])

    def test_a_hostname_that_is_taken_does_not_say_whose_it_is(self) -> None:
        HostnameGrant.objects.create(tenant=self.acme, name="shop.example.com", grantee_slug="other")
        Hostname.objects.create(tenant=self.other, name="shop.example.com")
        Hostname.objects.create(tenant=self.other, name="*.shop.example.com")
        self.client.force_login(self.editor)
        given = {**self.open(self.backend), "hostname_links-TOTAL_FORMS": 2}
        for name, words in (("shop.example.com", "taken"), ("a.shop.example.com", ownership.UNDER_WILDCARD)):
            for address, field, data in (
                (page("add", Hostname), "name", {"tenant": self.acme.pk}),
                (page("change", self.backend), "hostname_links-1-name", given),
            ):
                with self.subTest(name=name, field=field):
                    response = self.client.post(address, {**data, field: name})
                    self.assertIn(words, errors_of(response)[field][0])
                    self.assertHidden(response)
