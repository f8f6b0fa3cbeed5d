"""Tests of tenants.services.config_import.tenant: an existing tenant, or the default one, which is created."""

from __future__ import annotations

from django.test import TestCase

from tenants.models import (
    Backend,
    NexusNode,
    Tenant,
)
from tenants.services.config_import.tenant import UnknownTenant
from tests.support.registry import make_tenant
from tests.tenants.services.config_import.importing import backend, run


class TenantTests(TestCase):
    def test_the_tenant(self) -> None:
        with self.assertRaises(UnknownTenant):
            run(backend(), tenant="nobody")
        self.assertFalse(Tenant.objects.exists())
        mine = make_tenant()
        run(backend(), tenant=mine.slug)
        self.assertEqual(Backend.objects.get().tenant, mine)

    def test_the_tenant_that_an_import_makes_is_open(self) -> None:
        run(backend())
        self.assertEqual(Tenant.objects.get(slug="default").target_networks, "0.0.0.0/0, ::/0")
        self.assertTrue(Tenant.objects.get(slug="default").target_unix)

    def test_two_tenants_may_use_the_same_names_and_nodes(self) -> None:
        one, two = make_tenant(), make_tenant()
        run(backend(), tenant=one.slug)
        run(backend(hostnames=("x.example.com",)), tenant=two.slug, prune=True)
        self.assertEqual(Backend.objects.filter(name="edge").count(), 2)
        self.assertEqual(NexusNode.objects.count(), 1)
