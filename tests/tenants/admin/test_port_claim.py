"""Tests of port claims on a backend's page."""

from __future__ import annotations

from tenants.models import Backend, PortClaim
from tests.tenants.admin.pages import AdminTestCase, errors_of, page


class PortClaimTest(AdminTestCase):
    def test_a_public_port_that_the_tenant_has_not_been_given_is_for_operators(self) -> None:
        type(self.acme).objects.filter(pk=self.acme.pk).update(public_ports="27-30")
        refusal = "25 is not one of the public ports that the tenant has been given (27-30): ask an operator for it."
        kept = PortClaim.objects.create(backend=self.backend, public_port=26)  # by an operator
        rows = {"port_claims-TOTAL_FORMS": 4, "port_claims-0-public_port": 26}
        for number, (transport, port) in enumerate((("tcp", 25), ("udp", 28), ("tcp", 27)), 1):
            rows |= {f"port_claims-{number}-transport": transport, f"port_claims-{number}-public_port": port}
        self.client.force_login(self.editor)
        response = self.save(self.backend, **rows)
        self.assertEqual(errors_of(response), {"port_claims-1-public_port": [refusal]})
        changed = self.save(self.backend, **{"port_claims-0-public_port": 25})
        self.assertEqual(errors_of(changed), {"port_claims-0-public_port": [refusal]})
        data = {**self.open(self.backend), "tenant": self.acme.pk, "name": "another", "hostname_links-TOTAL_FORMS": 0}
        data |= {"port_claims-TOTAL_FORMS": 1, "port_claims-INITIAL_FORMS": 0, "port_claims-0-id": ""}
        data |= {"port_mappings-TOTAL_FORMS": 0, "port_mappings-INITIAL_FORMS": 0, "hostname_links-INITIAL_FORMS": 0}
        data |= {"credential-TOTAL_FORMS": 0, "credential-INITIAL_FORMS": 0, "node_links-INITIAL_FORMS": 0}
        data |= {"node_links-TOTAL_FORMS": 0, "port_claims-0-backend": "", "port_claims-0-public_port": 25}
        added = self.client.post(page("add", Backend), data)
        self.assertEqual(errors_of(added), {"port_claims-0-public_port": [refusal]})
        rows["port_claims-1-DELETE"] = "on"
        self.assertSaved(self.save(self.backend, **rows))
        own = PortClaim.objects.filter(backend=self.backend).values_list("transport", "public_port")
        self.assertEqual(set(own), {("tcp", 26), ("udp", 28), ("tcp", 27)})
        kept.refresh_from_db()
        self.client.force_login(self.operator)
        self.assertSaved(self.save(self.backend, **{"port_claims-0-public_port": 25}))
