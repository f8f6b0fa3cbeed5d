"""Tests of tenants.admin.deletion: what goes with a row, in numbers."""

from __future__ import annotations

from django.contrib.admin.utils import NestedObjects
from django.db import DEFAULT_DB_ALIAS

from tenants.admin import deletion
from tenants.models import BackendHostname, HostRoute, Membership
from tests.tenants.admin.pages import AdminTestCase, page


class DeletionTest(AdminTestCase):
    def test_the_numbers_are_those_of_all_that_django_would_delete(self) -> None:
        for row in (self.acme, self.backend, self.node, self.editor, self.backend.hostnames.get()):
            with self.subTest(str(row)):
                nested = NestedObjects(using=DEFAULT_DB_ALIAS)
                nested.collect([row])
                expected = {model: len(found) for model, found in nested.model_objs.items()}
                self.assertEqual(deletion.numbers([row], DEFAULT_DB_ALIAS), (expected, []))

    def test_what_is_reached_in_two_ways_is_counted_once(self) -> None:
        found, _ = deletion.numbers([self.acme], DEFAULT_DB_ALIAS)
        number = BackendHostname.objects.filter(backend__tenant=self.acme).count()
        self.assertGreater(number, 0)
        self.assertEqual(found[BackendHostname], number)

    def test_the_page_of_an_operator_tells_them(self) -> None:
        self.client.force_login(self.operator)
        response = self.client.get(page("delete", self.acme))
        counts = dict(response.context["model_count"])
        self.assertEqual(counts["host routes"], HostRoute.objects.filter(port_mapping__backend=self.backend).count())
        self.assertEqual(counts["memberships"], Membership.objects.filter(tenant=self.acme).count())
        self.assertEqual(response.context["perms_lacking"], set())
