"""Tests of relay.configfile.extras: what the reference client does not know."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay.config import Limits, Removal, RemovalMode
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.configfile import ConfigFileError, dump, parse_config, to_relay_config

FILE = """
backends:
  - name: edge
    hostnames: [app.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: a-secret-of-some-length}
    portMappings:
      443:
        default: [one.internal:8443, "two.internal:8443, unix:/run/app.sock"]
        hosts: {app.example.com: "three.internal:1,[2001:DB8::1]:2"}
        proxyProtocol: v2
        targetOrder: roundRobin
        dialTimeoutSeconds: 3
        targetHealth: {intervalSeconds: 5, timeoutSeconds: 1, upAfter: 4, downAfter: 6}
        access: {allow: [192.0.2.0/24, "2001:db8::/32"], deny: [192.0.2.7], mode: observe}
    limits: {maxStreams: 9, streamsPerSecond: 8, uploadBytesPerSecond: 700, downloadBytesPerSecond: 600}
    removal: {mode: kill, seconds: 5}
"""


class ExtrasTests(SimpleTestCase):
    def test_they_reach_the_relay(self) -> None:
        backend = to_relay_config(parse_config(FILE.encode(), "nexus.yaml")).backends["edge"]
        (mapping,) = backend.routes
        self.assertEqual(mapping.default, "one.internal:8443,two.internal:8443,unix:/run/app.sock")
        self.assertEqual(dict(mapping.hosts), {"app.example.com": "three.internal:1,[2001:db8::1]:2"})
        self.assertEqual(
            mapping.options,
            PortOptions(
                proxy_protocol=ProxyProtocol.V2,
                target_order=TargetOrder.ROUND_ROBIN,
                dial_timeout=3.0,
                target_health=TargetHealth(5.0, 1.0, 4, 6),
                access=AccessList(("192.0.2.0/24", "2001:db8::/32"), ("192.0.2.7/32",), AccessMode.OBSERVE),
            ),
        )
        self.assertEqual(backend.limits, Limits(9, 8, 700, 600))
        self.assertEqual(backend.removal, Removal(RemovalMode.KILL, 5.0))

    def test_they_are_written_as_they_are_read(self) -> None:
        document = parse_config(FILE.encode(), "nexus.yaml")
        self.assertEqual(parse_config(dump(document, include_secrets=True).encode(), "again.yaml"), document)

    def test_errors_have_a_place_and_a_remedy(self) -> None:
        for old, new, words in (
            ("v2", "v3", "443.proxyProtocol: is 'v3': write v1 or v2"),
            ("roundRobin", "random", "write ordered or roundRobin"),
            ("dialTimeoutSeconds: 3", "dialTimeoutSeconds: 61", "write 1 to 60 seconds"),
            ("intervalSeconds: 5", "interval: 5", "did you mean intervalSeconds?"),
            ("upAfter: 4", "upAfter: 0", "1 or more"),
            ("192.0.2.0/24", "192.0.2.1/24", "access.allow[0]: network '192.0.2.1/24' has bits set"),
            ("mode: observe", "mode: watch", "write enforce or observe"),
            ("mode: kill", "mode: cut", "write drain or kill"),
            ("maxStreams: 9", "maxStreams: -1", "0 or more"),
            ("one.internal:8443, ", "two.internal:8443, ", "stands twice"),
            ("proxyProtocol: v2", "proxy: v2", "proxy"),
        ):
            with self.subTest(new), self.assertRaises(ConfigFileError) as caught:
                parse_config(FILE.replace(old, new, 1).encode(), "nexus.yaml")
            self.assertIn(words, str(caught.exception))
            self.assertRegex(str(caught.exception), r"nexus\.yaml:\d+:\d+: ")

    def test_version_1_and_udp_exclude_each_other(self) -> None:
        text = FILE.replace("v2", "v1").replace("    removal:", "    udpRoutes: [{port: 443}]\n    removal:")
        with self.assertRaisesMessage(ConfigFileError, "v1 has no form for UDP"):
            parse_config(text.encode(), "nexus.yaml")

    def test_a_file_without_them_is_written_without_them(self) -> None:
        text = """
backends:
  - name: edge
    hostnames: [app.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: a-secret-of-some-length}
    portMappings: {443: "localhost:8443"}
"""
        written = dump(parse_config(text.encode(), "nexus.yaml"), include_secrets=True)
        for key in ("proxyProtocol", "targetOrder", "access", "limits", "removal"):
            self.assertNotIn(key, written)
