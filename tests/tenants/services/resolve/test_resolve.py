"""Tests of tenants.services.resolve.resolve: the same verdict as a relay's, of what the user may see."""

from __future__ import annotations

from tenants.models import HostRoute, PortClaim, PortMapping
from tests.tenants.services.relays.reporting import failed
from tests.tenants.services.resolve.asking import SERVES, ResolveTestCase, ask, report


class ResolveTests(ResolveTestCase):
    def test_who_serves_and_by_which_rule(self) -> None:
        answer = ask("APP.example.com.")
        (found,) = answer.backends
        self.assertEqual((found.tenant, found.backend, found.verdict), ("acme", "edge", SERVES))
        self.assertEqual((found.claim, found.rule, found.targets), ("app.example.com",) * 2 + ("localhost:9443",))
        self.assertEqual(found.shares, {self.node.address: 1.0})
        self.assertEqual(
            [(rule.rule, rule.used, rule.why) for rule in found.rules],
            [("app.example.com", True, ""), ("default", False, "app.example.com comes first")],
        )
        would = "would be served by acme/edge, as configured: no relay reports whether it is."
        self.assertEqual(answer.verdict, f"app.example.com at tcp port 443 {would}")
        self.assertIn("No relay reports a live session", answer.notes[0])

    def test_what_is_so_now(self) -> None:
        failed(self.backend, self.node, problem="nothing listens there")
        answer = ask("app.example.com")
        is_down = "is not served now: acme/edge would serve it, and is down."
        self.assertEqual(answer.verdict, f"app.example.com at tcp port 443 {is_down}")
        self.assertEqual((answer.backends[0].state, answer.backends[0].shown), ("down", "would serve"))
        self.assertIn("nothing listens there", answer.backends[0].problem)
        report(self.backend, hostnames=["app.example.com"])
        answer = ask("app.example.com")
        self.assertEqual(answer.verdict, "app.example.com at tcp port 443 is served by acme/edge.")
        self.assertEqual((answer.backends[0].state, answer.backends[0].problem), ("up", ""))
        other = self.another("app.example.com", name="other")
        failed(other, self.node, problem="expired")
        answer = ask("app.example.com")
        self.assertEqual(answer.verdict, "app.example.com at tcp port 443 is served by acme/edge.")
        self.assertEqual([each.state for each in answer.backends], ["up", "down"])

    def test_nobody(self) -> None:
        for host in ("nobody.example.net", "", "*", ".", "..", "1.2.3.4", "[::1]", "münchen.example"):
            with self.subTest(host):
                answer = ask(host)
                self.assertEqual((answer.backends, answer.verdict[:10]), ([], "No backend"))

    def test_claimed_ports(self) -> None:
        PortClaim.objects.create(backend=self.backend, transport="udp", public_port=53)
        PortClaim.objects.create(backend=self.backend, transport="tcp", public_port=25)
        PortMapping.objects.create(backend=self.backend, transport="udp", public_port=53, default_target="dns:53")
        mapping = PortMapping.objects.create(backend=self.backend, public_port=25, default_target="mail:25")
        HostRoute.objects.create(port_mapping=mapping, pattern="never.example.com", target="h:1")
        for host, port, transport, target in (
            ("udp:53", 53, "udp", "dns:53"),
            ("whatever.example.com", 53, "udp", "dns:53"),
            ("tcp:25", 25, "tcp", "mail:25"),
            ("never.example.com", 25, "tcp", "mail:25"),  # whoever gets it by the port is not told the name
        ):
            with self.subTest(host):
                (found,) = ask(host, port, transport=transport).backends
                self.assertEqual((found.verdict, found.claim), (SERVES, f"{transport}:{port}"))
                self.assertEqual((found.rule, found.targets), ("default", target))
        self.assertEqual(ask("udp:54", 54, transport="udp").backends, [])
