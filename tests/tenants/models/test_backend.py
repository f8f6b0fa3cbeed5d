"""A backend and its hostnames have one tenant."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.test import TestCase

from tenants.models import (
    Backend,
)
from tests.support.registry import make_served_backend, make_tenant


class TenantOwnershipTests(TestCase):
    def test_what_is_linked_does_not_move_to_another_tenant(self) -> None:
        backend, elsewhere = make_served_backend(), make_tenant()
        for row in (backend, backend.hostnames.get()):
            row.tenant = elsewhere
            with self.assertRaisesMessage(ValidationError, "while it is linked"):
                row.save()
        backend.refresh_from_db()
        backend.hostnames.clear()
        backend.tenant = elsewhere
        backend.save()
        self.assertEqual(Backend.objects.get(pk=backend.pk).tenant, elsewhere)
