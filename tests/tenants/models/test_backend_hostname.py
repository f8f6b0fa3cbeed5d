"""A backend serves its own tenant's hostnames only."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import TestCase

from tenants.models import (
    BackendHostname,
    Hostname,
)
from tests.support.registry import make_backend, make_tenant


class TenantOwnershipTests(TestCase):
    def test_a_backend_serves_its_own_tenants_hostnames_only(self) -> None:
        backend = make_backend()
        foreign = Hostname.objects.create(tenant=make_tenant(), name="foreign.example.com")
        link = BackendHostname(backend=backend, hostname=foreign)
        for write in (link.full_clean, link.save, lambda: backend.hostnames.add(foreign)):
            with self.assertRaisesMessage(ValidationError, "belongs to another tenant"), transaction.atomic():
                write()
        with self.assertRaisesMessage(ValidationError, "belongs to another tenant"):
            BackendHostname.objects.bulk_create([link])
