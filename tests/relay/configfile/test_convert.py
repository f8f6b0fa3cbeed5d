"""Tests of documents as the relay's configuration."""

from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import HealthCheck, given, settings

from relay.config import Claims, NodeConfig, UdpRoute
from relay.configfile import ConfigDocument, read_config_file, to_relay_config
from tests.relay.configfile.documents import documents

CONFIGS = Path(__file__).parents[2] / "data" / "configs"


class ConvertTests(SimpleTestCase):
    def test_the_attested_generation(self) -> None:
        config = to_relay_config(read_config_file(CONFIGS / "attested.yaml"))
        backend = config.backends["edge-apps"]
        self.assertEqual(backend.key, "edge-apps")
        self.assertEqual(backend.nodes[0], NodeConfig("wss://nexus-1.example.com/connect"))
        self.assertEqual(
            backend.claims,
            Claims(
                hostnames=("*.preview.example.com", "app.example.com"),
                weight=2,
                tcp_ports=(53,),
                udp_routes=(UdpRoute(53, 60),),
                outbound_allowed=True,
                allowed_outbound_ports=(25, 465, 587),
            ),
        )
        self.assertEqual(backend.routes.resolve(443, "a.preview.example.com"), "localhost:10443")
        self.assertEqual(backend.routes.resolve(443, "app.example.com"), "localhost:8443")
        self.assertEqual(backend.routes.resolve(53, "tcp:53"), "localhost:5353")
        self.assertEqual(backend.routes.resolve(53, "udp:53", "udp"), "localhost:5353")
        self.assertIsNone(backend.routes.resolve(993, "udp:993", "udp"))
        self.assertEqual(backend.socks5_listen, "127.0.0.1:1080")

    @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(documents())
    def test_any_document_converts(self, document: ConfigDocument) -> None:
        config = to_relay_config(document)
        self.assertEqual(list(config.backends), [backend.name for backend in document.backends])
        self.assertEqual(config, to_relay_config(document))
