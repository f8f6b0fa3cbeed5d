"""Tests of tenants.services.resolve.resolve: the same verdict as a relay's, and words for everybody who loses."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection
from django.test import SimpleTestCase, TestCase
from django.utils import timezone

from relay.config.hostnames import normalise_pattern
from relay.errors import InvalidValue
from tenants.models import (
    Backend,
    Credential,
    CredentialKind,
    Hostname,
    HostRoute,
    NexusNode,
    PortClaim,
    PortMapping,
    RelayProcess,
    RelaySession,
    Role,
)
from tenants.services.resolve.resolve import LOSES, REFUSES, SERVES, Answer, question, resolve
from tests.support.registry import make_backend, make_served_backend, make_tenant, make_token
from tests.tenants.admin.pages import make_operator, make_user

VECTORS = json.loads((Path(__file__).parents[3] / "data" / "vectors" / "routing.json").read_text())


def ask(host: str, port: Any = 443, *, client: str = "", transport: str = "tcp", **options: Any) -> Answer:
    return resolve(question(host, port, client, transport), **options)


def verdicts(answer: Answer) -> dict[str, str]:
    return {each.backend: each.verdict for each in answer.backends}


def report(backend: Backend, *, node: str = "", streams: int = 0, state: str = "up", **claims: Any) -> RelaySession:
    """Save what a relay tells of a live session."""
    now = timezone.now()
    relay, _ = RelayProcess.objects.get_or_create(
        name="relay-1", defaults={"started_at": now, "seen_at": now, "expires_at": now + timedelta(minutes=1)}
    )
    return RelaySession.objects.create(
        relay=relay,
        backend=backend,
        node=node or backend.nodes.first().address,
        state=state,
        dialect="attested",
        up_since=now,
        streams=streams,
        claims={"hostnames": [], "weight": 1, "tcp_ports": [], "udp_ports": []} | claims,
    )


class QuestionTests(SimpleTestCase):
    def test_what_is_no_question(self) -> None:
        for host, port, client, transport, what in (
            ("app.example.com", 0, "", "tcp", "out of range"),
            ("app.example.com", 70000, "", "tcp", "out of range"),
            ("app.example.com", "x", "", "tcp", "is no port"),
            ("app.example.com", "0443", "", "tcp", "is no port"),
            ("app.example.com", -1, "", "tcp", "out of range"),
            ("tcp:53", 54, "", "tcp", "names another port"),
            ("udp:53", 53, "", "tcp", "names another port"),
            ("a\0b.example.com", 443, "", "tcp", "holds what no hostname does"),
            ("a\nb", 443, "", "tcp", "holds what no hostname does"),
            ("a" * 5000, 443, "", "tcp", "holds what no hostname does"),
            ("app.example.com", 443, "nobody", "tcp", "is no IP address"),
            ("app.example.com", 443, "", "sctp", "is none"),
        ):
            with self.subTest(host=host[:20], port=port), self.assertRaisesRegex(InvalidValue, what):
                question(host, port, client, transport)

    def test_the_relays_normal_form(self) -> None:
        self.assertEqual(question(" API.Example.com. ", "443").hostname, "api.example.com")
        self.assertEqual(question("BÜCHER.example", 443).hostname, "xn--bcher-kva.example")
        self.assertEqual(question("anything.example.com", 53, transport="udp").hostname, "udp:53")
        self.assertEqual(question("TCP:53", 53).hostname, "tcp:53")
        self.assertEqual(question("", 443).hostname, "")


class VectorTests(TestCase):
    def test_every_recorded_case_goes_where_the_relay_sends_it(self) -> None:
        count = 0
        for document in VECTORS:
            backend = make_served_backend()
            backend.port_mappings.all().delete()
            for port, mapping in document["port_mappings"].items():
                saved = PortMapping.objects.create(
                    backend=backend, public_port=int(port), default_target=mapping.get("default") or ""
                )
                for pattern, target in (mapping.get("hosts") or {}).items():
                    # Past the registry, which takes no pattern for a whole top-level domain.
                    row = HostRoute.objects.create(port_mapping=saved, pattern="x.example.com", target=target)
                    with connection.cursor() as cursor:
                        cursor.execute(
                            "UPDATE tenants_hostroute SET pattern = %s WHERE id = %s",
                            [normalise_pattern(pattern), row.pk],
                        )
            for case in document["cases"]:
                asked = question(case["hostname"], case["port"])
                # A session that claims whatever is asked for, so that only the rules differ.
                PortClaim.objects.all().delete()
                PortClaim.objects.create(backend=backend, public_port=case["port"])
                RelaySession.objects.all().delete()
                report(backend, hostnames=[asked.hostname])
                (found,) = resolve(asked).backends
                self.assertEqual(found.targets or None, case["target"], case)
                self.assertEqual(found.verdict, SERVES if case["target"] else REFUSES, case)
                count += 1
            backend.delete()
        self.assertEqual(count, sum(len(document["cases"]) for document in VECTORS))


class ResolveTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.acme = make_tenant(slug="acme")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        cls.node = cls.backend.nodes.get()

    def another(self, hostname: str, *, name: str, **fields: Any) -> Backend:
        """Save one more backend at the same node."""
        backend = make_backend(fields.pop("tenant", self.acme), name=name, **fields)
        backend.nodes.add(self.node)
        if hostname:
            row, _ = Hostname.objects.get_or_create(tenant=backend.tenant, name=hostname)
            backend.hostnames.add(row)
        PortMapping.objects.create(backend=backend, public_port=443, default_target="other:1")
        Credential.objects.create(backend=backend, kind=CredentialKind.HMAC_SECRET, secret="s" * 40)
        return backend

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
        self.assertIn("No relay tells of a live session", answer.notes[0])

    def test_nobody(self) -> None:
        for host in ("nobody.example.net", "", "*", ".", "..", "1.2.3.4", "[::1]", "münchen.example"):
            with self.subTest(host):
                answer = ask(host)
                self.assertEqual((answer.backends, answer.verdict[:6]), ([], "Nobody"))

    def test_shares_by_weight_and_exact_before_wildcard(self) -> None:
        self.another("app.example.com", name="heavy", weight=3)
        self.another("*.example.com", name="catch-all")
        answer = ask("app.example.com")
        self.assertEqual(verdicts(answer), {"heavy": SERVES, "edge": SERVES, "catch-all": LOSES})
        self.assertEqual([sum(each.shares.values()) for each in answer.backends], [0.75, 0.25, 0])
        self.assertIn("app.example.com is more specific than its claim *.example.com", answer.backends[2].why)
        self.assertEqual(verdicts(ask("other.example.com")), {"catch-all": SERVES})
        self.assertEqual(ask("a.b.example.com").backends, [])

    def test_a_backend_without_the_port_gets_its_share_and_refuses_it(self) -> None:
        answer = ask("app.example.com", 8443)
        (found,) = answer.backends
        self.assertEqual((found.verdict, found.why), (REFUSES, "It maps tcp 443, and not tcp 8443."))
        self.assertEqual(found.shares, {self.node.address: 1.0})
        self.assertIn("where it is refused", answer.verdict)
        PortMapping.objects.all().delete()
        self.assertEqual(ask("app.example.com").backends[0].why, "It has no port mapping.")
        mapping = PortMapping.objects.create(backend=self.backend, public_port=443)
        HostRoute.objects.create(port_mapping=mapping, pattern="x.example.com", target="h:1")
        self.assertIn("neither a host route that fits nor a default", ask("app.example.com").backends[0].why)

    def test_why_others_get_nothing(self) -> None:
        def why() -> str:
            (found,) = ask("app.example.com").backends
            self.assertEqual(found.verdict, LOSES)
            return found.why

        Backend.objects.update(enabled=False)
        self.assertEqual(why(), "It is disabled.")
        Backend.objects.update(enabled=True)
        type(self.acme).objects.update(enabled=False)
        self.assertEqual(why(), "Its tenant is disabled.")
        type(self.acme).objects.update(enabled=True)
        NexusNode.objects.update(enabled=False)
        self.assertEqual(why(), "All of its nodes are disabled.")
        self.backend.nodes.clear()
        self.assertEqual(why(), "It has no node.")
        self.backend.nodes.add(self.node)
        NexusNode.objects.update(enabled=True)
        Credential.objects.all().delete()
        self.assertIn("credential", why())
        Credential.objects.create(
            backend=self.backend, kind=CredentialKind.PRESIGNED_TOKEN, secret=make_token(hostnames=["x.example.com"])
        )
        self.assertIn("not in its token", why())
        self.backend.hostnames.clear()
        self.assertIn("It routes app.example.com, but does not claim it", why())

    def test_live_sessions_rule(self) -> None:
        other = self.another("app.example.com", name="other")
        report(self.backend, hostnames=["app.example.com"], weight=4)
        answer = ask("app.example.com")
        self.assertTrue(answer.live)
        self.assertEqual(verdicts(answer), {"edge": SERVES, "other": LOSES})
        self.assertIn("no live session of it does", answer.backends[1].why)
        self.assertEqual([note for note in answer.notes if "No relay" in note], [])
        (session,) = answer.backends[0].sessions
        self.assertEqual((session.relay, session.claims, session.as_wanted), ("relay-1", True, False))
        self.assertIn("is being replaced", answer.backends[0].notes[0])
        report(other, hostnames=["app.example.com"], weight=1)
        self.assertEqual([sum(each.shares.values()) for each in ask("app.example.com").backends], [0.8, 0.2])

    def test_a_relay_that_is_not_heard_of_counts_for_nothing(self) -> None:
        report(self.backend, hostnames=["app.example.com"])
        RelayProcess.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        self.assertFalse(ask("app.example.com").live)

    def test_sessions_of_what_is_switched_off(self) -> None:
        report(self.backend, hostnames=["app.example.com"], state="draining")
        Backend.objects.update(enabled=False)
        (found,) = ask("app.example.com").backends
        self.assertEqual((found.verdict, found.why), (REFUSES, "It is disabled. Its sessions are on their way out."))

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

    def test_access_lists(self) -> None:
        PortMapping.objects.update(access_deny="192.0.2.0/24")
        self.assertIn("name a client address", ask("app.example.com").backends[0].access)
        self.assertEqual(ask("app.example.com", client="203.0.113.9").backends[0].access, "203.0.113.9 is let in")
        (found,) = ask("app.example.com", client="::ffff:192.0.2.7").backends
        self.assertEqual((found.verdict, found.access), (REFUSES, "192.0.2.7 is refused"))
        self.assertIn("does not admit 192.0.2.7", found.why)
        PortMapping.objects.update(access_mode="observe")
        (found,) = ask("app.example.com", client="192.0.2.7").backends
        self.assertEqual((found.verdict, found.access), (SERVES, "192.0.2.7 would be refused, and is let in (observe)"))

    def test_limits_that_are_reached(self) -> None:
        Backend.objects.update(max_streams=5)
        type(self.acme).objects.update(max_streams=7)
        report(self.backend, hostnames=["app.example.com"], streams=4)
        self.assertEqual(ask("app.example.com").backends[0].notes, [])
        report(self.backend, hostnames=["app.example.com"], streams=3)
        notes = ask("app.example.com").backends[0].notes
        self.assertEqual(
            [note.partition(":")[0] for note in notes],
            [
                "It has 7 live streams in one relay, and may have 5",
                "Its tenant has 7 live streams in one relay, and may have 7",
            ],
        )

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

    def test_the_command(self) -> None:
        out = StringIO()
        call_command("resolve", "app.example.com", "443", stdout=out)
        for part in ("is served by acme/edge", "100% of the new ones", "rule app.example.com to localhost:9443"):
            self.assertIn(part, out.getvalue())
        out = StringIO()
        call_command("resolve", "app.example.com", "443", "--json", "--client-ip", "2001:db8::1", stdout=out)
        found = json.loads(out.getvalue())
        self.assertEqual((found["client"], found["backends"][0]["verdict"]), ("2001:db8::1", SERVES))
        with self.assertRaises(SystemExit), self.assertNoLogs():
            call_command("resolve", "nobody.example.com", "443", stdout=StringIO())
        with self.assertRaisesRegex(CommandError, "out of range"):
            call_command("resolve", "app.example.com", "70000")


class _Counting:
    """Counts queries."""

    def __enter__(self) -> Any:
        from django.test.utils import CaptureQueriesContext

        self._context = CaptureQueriesContext(connection)
        return self._context.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)
