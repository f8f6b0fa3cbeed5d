"""Tests of tenants.services.config_import.rows_below: what hangs on a backend is created, changed and deleted."""

from __future__ import annotations

from relay.config import UdpRoute
from relay.configfile import (
    PortMappingDocument,
)
from tenants.models import (
    Hostname,
    NexusNode,
    PortMapping,
)
from tests.tenants.services.config_import.importing import ChangeTestCase


class RowsBelowTests(ChangeTestCase):
    def test_hostnames(self) -> None:
        names = ("new.example.com", "edge.example.com")
        self.assertEqual(self.change(hostnames=names), ["hostnames added: new.example.com"])
        self.assertEqual(self.change(hostnames=names[::-1]), ["hostnames in another order"])
        self.assertEqual(self.change(hostnames=names[:1]), ["hostnames removed: edge.example.com"])
        self.assertTrue(Hostname.objects.filter(name="edge.example.com").exists(), "it stays the tenant's")

    def test_nodes(self) -> None:
        first, second = "wss://nexus.example.com/connect", "wss://nexus.example.com:8443/connect"
        self.assertEqual(self.change(nexus_addresses=(second, first)), [f"nodes added: {second}"])
        self.assertEqual(self.change(nexus_addresses=(second,)), [f"nodes removed: {first}"])
        self.assertEqual(
            set(NexusNode.objects.values_list("name", flat=True)), {"nexus.example.com", "nexus.example.com:8443"}
        )

    def test_claims(self) -> None:
        mapping = (PortMappingDocument(53, "localhost:5353"),)
        self.assertEqual(
            self.change(tcp_ports=(53,), udp_routes=(UdpRoute(53, 60),), port_mappings=mapping),
            [
                "claim of tcp 53 added",
                "claim of udp 53 added",
                "mapping of tcp 53 added",
                "mapping of tcp 443 removed",
                "mapping of udp 53 added",
            ],
        )
        self.assertEqual(
            self.change(tcp_ports=(53,), udp_routes=(UdpRoute(53),), port_mappings=mapping),
            ["flow idle timeout of udp 53 60 → none"],
        )
        self.assertEqual(
            self.change(tcp_ports=(53,), port_mappings=mapping),
            ["claim of udp 53 removed", "mapping of udp 53 removed"],
        )

    def test_targets(self) -> None:
        mapping = PortMapping.objects.get(backend=self.backend)
        self.assertEqual(
            self.change(
                port_mappings=(
                    PortMappingDocument(
                        443, None, (("api.example.com", "localhost:1"), ("b.example.com", "localhost:2"))
                    ),
                )
            ),
            [
                "tcp 443 default localhost:8443 → none",
                "tcp 443 host api.example.com localhost:9443 → localhost:1",
                "tcp 443 hosts added: b.example.com",
            ],
        )
        self.assertEqual(
            self.change(port_mappings=(PortMappingDocument(443, "localhost:3", (("b.example.com", "localhost:2"),)),)),
            ["tcp 443 default none → localhost:3", "tcp 443 hosts removed: api.example.com"],
        )
        self.assertEqual(PortMapping.objects.get(backend=self.backend).pk, mapping.pk)
