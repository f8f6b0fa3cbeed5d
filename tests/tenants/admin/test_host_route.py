"""Tests of host routes on a backend's page."""

from __future__ import annotations

from tenants.models import PortMapping
from tests.tenants.admin.pages import AdminTestCase, errors_of


class HostRouteTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.editor)

    def test_routes_without_a_port_ask_for_the_port(self) -> None:
        response = self.save(
            self.backend,
            **{
                "port_mappings-TOTAL_FORMS": 2,
                "port_mappings-1-transport": "tcp",
                "port_mappings-1-host_routes-TOTAL_FORMS": 1,
                "port_mappings-1-host_routes-INITIAL_FORMS": 0,
                "port_mappings-1-host_routes-0-pattern": "new.example.com",
                "port_mappings-1-host_routes-0-target": "localhost:1",
            },
        )
        self.assertIn("port_mappings-1-public_port", errors_of(response))

    def test_a_mapping_goes_with_its_routes_though_one_of_them_is_wrong(self) -> None:
        response = self.save(
            self.backend, **{"port_mappings-0-DELETE": "on", "port_mappings-0-host_routes-0-target": "nonsense"}
        )
        self.assertSaved(response)
        self.assertFalse(PortMapping.objects.filter(backend=self.backend).exists())
