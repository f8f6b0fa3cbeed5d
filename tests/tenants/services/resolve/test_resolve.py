"""Tests of tenants.services.resolve.resolve: the same verdict as a relay's, of what the user may see."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from tenants.models import Backend, HostRoute, PortClaim, PortMapping, RelayProcess, Role
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import make_operator, make_user
from tests.tenants.services.resolve.asking import REFUSES, SERVES, ResolveTestCase, ask, report, verdicts


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
        self.assertEqual(answer.verdict, "app.example.com at tcp port 443 is served by acme/edge.")
        self.assertIn("No relay reports a live session", answer.notes[0])

    def test_nobody(self) -> None:
        for host in ("nobody.example.net", "", "*", ".", "..", "1.2.3.4", "[::1]", "münchen.example"):
            with self.subTest(host):
                answer = ask(host)
                self.assertEqual((answer.backends, answer.verdict[:10]), ([], "No backend"))

    def test_a_relay_that_is_not_heard_of_counts_for_nothing(self) -> None:
        report(self.backend, hostnames=["app.example.com"])
        RelayProcess.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        self.assertFalse(ask("app.example.com").live)

    def test_sessions_of_what_is_switched_off(self) -> None:
        report(self.backend, hostnames=["app.example.com"], state="draining")
        Backend.objects.update(enabled=False)
        (found,) = ask("app.example.com").backends
        self.assertEqual((found.verdict, found.why), (REFUSES, "It is disabled. Its sessions are draining."))

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

    def test_a_member_sees_own_tenants_only(self) -> None:
        member, stranger = make_user("member", acme=Role.VIEWER), make_user("stranger")
        other = make_tenant(slug="other")
        make_served_backend(other, "secluded.example.net")
        there, missing = (ask(name, user=member) for name in ("secluded.example.net", "missing.example.net"))
        self.assertEqual(there.backends, [])
        self.assertEqual(there.verdict.replace("secluded", "missing"), missing.verdict)
        self.assertEqual(there.notes, missing.notes)
        self.assertEqual(verdicts(ask("app.example.com", user=member)), {"edge": SERVES})
        self.assertEqual(ask("app.example.com", user=stranger).backends, [])
        self.assertEqual(len(ask("secluded.example.net", user=make_operator()).backends), 1)

    def test_a_constant_number_of_queries(self) -> None:
        counts = []
        for round in range(2):
            for number in range(5):
                backend = self.another("app.example.com", name=f"b-{round}-{number}")
                report(backend, hostnames=["app.example.com"])
            with self.assertNumQueries(counts[0]) if counts else _Counting() as counted:
                ask("app.example.com")
            counts.append(len(counted))
        self.assertLess(counts[0], 20)


class _Counting:
    """Counts queries."""

    def __enter__(self) -> Any:
        from django.test.utils import CaptureQueriesContext

        self._context = CaptureQueriesContext(connection)
        return self._context.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)
