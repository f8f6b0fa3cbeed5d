"""Everything below backends is read through one list, and the list is complete."""

from __future__ import annotations

from django.test import TestCase

from tenants.changes.base import RegistryModel
from tenants.changes.change_log import ChangeKind
from tenants.models import Backend, PortClaim
from tenants.models.below_backend import BelowBackends, with_details
from tests.support.registry import make_served_backend, make_tenant

KINDS = ("node_links", "hostname_links", "port_claims", "port_mappings", "host_routes", "credentials")


class BelowBackendsTest(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.backend, cls.other = make_served_backend(), make_served_backend(make_tenant())
        for backend in (cls.backend, cls.other):
            for port in (54, 53):
                PortClaim.objects.create(backend=backend, public_port=port)

    def test_holds_every_model_whose_change_is_a_backends(self) -> None:
        below = {getattr(BelowBackends([]), kind).model for kind in KINDS}
        expected = {
            model for model in RegistryModel.__subclasses__() if model.root_kind == ChangeKind.BACKEND
        } - {Backend}  # fmt: skip
        self.assertEqual(below, expected)

    def test_rows_of_these_backends_only(self) -> None:
        for backends in ([self.backend.pk], Backend.objects.filter(pk=self.backend.pk).values("pk")):
            below = BelowBackends(backends)
            for kind in KINDS:
                with self.subTest(kind=kind), self.assertNumQueries(1):
                    rows = list(getattr(below, kind).select_related())
                    self.assertTrue(rows)
                    owners = {getattr(row, "port_mapping", row).backend_id for row in rows}
                    self.assertEqual(owners, {self.backend.pk})
        self.assertEqual([row.public_port for row in BelowBackends([self.other.pk]).port_claims], [53, 54])

    def test_details_of_backends_cost_the_same_for_any_number(self) -> None:
        def look() -> None:
            for row in with_details(Backend.objects.all()):
                self.assertTrue(row.tenant.slug and row.credential.kind)
                for links in (row.node_links, row.hostname_links, row.port_claims, row.port_mappings):
                    self.assertTrue(list(links.all()))
                self.assertTrue([route for each in row.port_mappings.all() for route in each.host_routes.all()])

        with self.assertNumQueries(9):
            look()
