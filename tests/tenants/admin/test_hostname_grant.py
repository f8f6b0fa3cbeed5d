"""Tests of the pages of grants: nothing tells which tenants exist."""

from __future__ import annotations

import re
from typing import Any

from django.urls import reverse

from tenants.models import Hostname, HostnameGrant
from tenants.rules import ownership
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import AdminTestCase, errors_of, page


class HostnameGrantPageTest(AdminTestCase):
    def add(self, slug: str, name: str = "shop.example.com") -> Any:
        given = {"tenant": self.acme.pk, "name": name, "grantee_slug": slug}
        return self.client.post(page("add", HostnameGrant), given)

    def test_owners_grant_and_nothing_tells_which_slugs_exist(self) -> None:
        self.client.force_login(self.owner)
        for slug in ("other", "none-such"):
            self.assertSaved(self.add(slug))
        self.client.get(reverse("admin:index"))  # shows what was said of the two
        rows = list(HostnameGrant.objects.order_by("pk"))
        addresses = [
            [page("changelist", HostnameGrant) + f"?q={row.grantee_slug}" for row in rows],
            [page("change", row) for row in rows],
        ]
        for each in addresses:
            texts = [self.client.get(address).content.decode() for address in each]
            for row in rows:
                texts = [text.replace(row.grantee_slug, "").replace(str(row.pk), "") for text in texts]
            self.assertEqual(*(re.sub('name="csrf[^>]*>|"X-CSRF[^"]*": "[^"]*"', "", text) for text in texts))
        for query in ("grantee__isnull=0", f"grantee={self.other.pk}", "grantee__slug=other", "grantee_id__gt=0"):
            with self.subTest(query), self.assertLogs("django.security"):
                self.assertEqual(self.client.get(page("changelist", HostnameGrant) + f"?{query}").status_code, 400)
        self.assertIn("no grant of its own", errors_of(self.add("acme"))["grantee_slug"][0])
        self.assertIn("already", errors_of(self.add("other"))["name"][0])

    def test_editors_and_viewers_look(self) -> None:
        grant = HostnameGrant.objects.create(tenant=self.acme, name="shop.example.com", grantee_slug="other")
        for user in (self.editor, self.viewer):
            self.client.force_login(user)
            self.assertEqual(self.client.get(page("change", grant)).status_code, 200)
            self.assertEqual(self.add("other", "x.example.com").status_code, 403)
            self.assertEqual(self.client.post(page("delete", grant), {"post": "yes"}).status_code, 403)

    def test_the_grantee_sees_the_name_only(self) -> None:
        grant = HostnameGrant.objects.create(tenant=self.acme, name="shop.example.com", grantee_slug="other")
        HostnameGrant.objects.create(tenant=make_tenant(), name="spam.example.org", grantee_slug="other")
        self.client.force_login(self.stranger)
        shown = self.client.get(page("change", self.other))
        self.assertContains(shown, "shop.example.com")
        self.assertNotContains(shown, "acme")
        self.assertNotContains(shown, "spam")
        self.assertNotContains(self.client.get(page("changelist", HostnameGrant)), "shop.example.com")
        self.assertEqual(self.client.get(page("change", grant)).status_code, 302)
        given = {"tenant": self.other.pk, "name": "deep.shop.example.com"}
        self.assertSaved(self.client.post(page("add", Hostname), given))
        grant.delete()
        response = self.client.post(page("add", Hostname), {**given, "name": "more.shop.example.com"})
        self.assertEqual(errors_of(response)["name"], [ownership.NO_DOMAIN])
