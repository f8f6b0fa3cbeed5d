"""Tests of the pages of sites, which operators only see."""

from __future__ import annotations

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.models import HostRoute, PortMapping, Site
from tests.support.registry import make_backend
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class SecludedSitesTest(AdminTestCase):
    def test_nobody_but_operators_sees_sites(self) -> None:
        site = Site.objects.create(slug="hidden-site", target_networks="10.99.0.0/16")
        for user in (self.owner, self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for address in (page("changelist", Site), page("add", Site), page("change", site), page("delete", site)):
                response = self.client.get(address, follow=True)
                self.assertNotIn("hidden-site", response.content.decode())
                self.assertNotIn("10.99.0.0", response.content.decode())
            missing = self.client.get(reverse("admin:tenants_site_change", args=[site.pk + 1]), follow=True)
            there = self.client.get(page("change", site), follow=True)
            self.assertEqual(missing.status_code, there.status_code)
            self.assertNotContains(self.client.get(reverse("admin:index")), page("changelist", Site))
        self.assertEqual(HostRoute.objects.count(), 2)


class SitePageTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.operator)

    def test_sites(self) -> None:
        make_backend(self.acme, site="north")
        PortMapping.objects.create(
            backend=self.acme.backends.get(site="north"), public_port=1, default_target="[::1]:1"
        )
        fields = fields_of(self.client.get(page("add", Site)))
        response = self.client.post(page("add", Site), {**fields, "slug": "north", "target_ports": "80"}, follow=True)
        self.assertContains(response, "this policy refuses 1 default target or host route")
        response = self.client.get(page("changelist", Site) + "?q=nor")
        self.assertContains(response, "north")
        [site] = response.context["cl"].result_list
        self.assertEqual(site.named_by, 1)
        response = self.client.post(page("add", Site), {**fields, "slug": "north"})
        self.assertIn("A site has this slug already.", errors_of(response)["slug"])

    def test_the_lists_queries_do_not_grow(self) -> None:
        counts = []
        for number in (1, 9):
            for place in range(number):
                Site.objects.create(slug=f"site-{number}-{place}")
            with CaptureQueriesContext(connection) as found:
                self.client.get(page("changelist", Site))
            counts.append(len(found))
        self.assertEqual(counts[0], counts[1])
