from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet
from django.test import TestCase, override_settings

from tenants.models import Backend, Credential, Hostname, HostRoute, NexusNode, PortClaim, PortMapping
from tenants.models.below_backend import with_details
from tenants.services.diagnostics import backend_diagnostics, credential_diagnostics
from tests.support.registry import make_backend, make_served_backend, make_token

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class CredentialDiagnosticTests(TestCase):
    def token(self, hostnames: list[str], claimed: list[str], **claims: object) -> Credential:
        backend = make_backend()
        for name in hostnames:
            backend.hostnames.add(Hostname.objects.create(tenant=backend.tenant, name=name))
        token = make_token(hostnames=claimed, **claims)
        return Credential.objects.create(backend=backend, kind="presigned_token", secret=token)

    def test_expiry(self) -> None:
        for lifetime, words in (
            (timedelta(0), "expired on 2026-06-01 00:00 UTC"),
            (timedelta(days=-400), "expired on"),
            (timedelta(hours=6), "expires within a day, on 2026-06-01 06:00 UTC"),
            (timedelta(days=6), "expires within 7 days, on 2026-06-07 00:00 UTC"),
            (timedelta(days=30), "expires within 31 days"),
            (timedelta(days=31), ""),
        ):
            credential = self.token([], [], exp=int((NOW + lifetime).timestamp()))
            found = credential_diagnostics(credential, NOW)
            with self.subTest(lifetime):
                self.assertEqual(len(found), bool(words))
                self.assertIn(words, "".join(found))
        self.assertEqual(credential_diagnostics(self.token([], []), NOW), [])

    def test_claims_that_lack_a_hostname(self) -> None:
        credential = self.token(
            ["app.example.com", "one.wild.example.com", "*.sub.example.com", "lacking.example.com"],
            ["APP.example.com.", "*.wild.example.com", "*.sub.example.com", "more.example.com"],
        )
        warning, more = credential_diagnostics(credential, NOW)
        self.assertIn("lacking.example.com", warning)
        self.assertIn("also claims *.wild.example.com, more.example.com: nodes send that here", more)
        for name in ("app", "one", "sub"):
            self.assertNotIn(f"{name}.", warning)

    def test_many_lacking_hostnames_are_counted(self) -> None:
        [warning] = credential_diagnostics(self.token([f"h{n}.example.com" for n in range(8)], []), NOW)
        self.assertIn("and 3 more", warning)

    def test_what_nodes_do_about_claims_that_differ(self) -> None:
        credential = self.token(
            ["app.example.com"], ["app.example.com"], weight=3, tcp_ports=[25, 53], udp_routes=[{"port": 53}]
        )
        backend = credential.backend
        backend.outbound_allowed = True
        backend.save()
        PortClaim.objects.create(backend=backend, public_port=53)
        PortClaim.objects.create(backend=backend, public_port=70)
        self.assertEqual(
            [warning.partition(":")[0] for warning in credential_diagnostics(credential, NOW)],
            [
                "The token has the weight 3, the backend 1",
                "The token does not claim TCP port 70",
                "The token also claims TCP port 25",
                "The token also claims UDP port 53",
                "The token does not allow outbound connections",
            ],
        )

    def test_a_next_token_that_takes_over_in_time(self) -> None:
        for ends, next_at, next_ends, words in (
            (3, 2, 90, []),
            (3, 2, 20, ["The token expires within 21 days"]),
            (3, 5, 90, ["The token expires within 4 days"]),
            (-1, -2, 90, []),
        ):
            with self.subTest(ends=ends, next_at=next_at):
                credential = self.token([], [], exp=int((NOW + timedelta(days=ends)).timestamp()))
                credential.next_secret = make_token(exp=int((NOW + timedelta(days=next_ends)).timestamp()))
                credential.next_at = NOW + timedelta(days=next_at)
                credential.save()
                found = credential_diagnostics(credential, NOW)
                self.assertEqual([warning.partition(",")[0] for warning in found], words)
                self.assertEqual("too late" in "".join(found), ends < next_at)

    def test_weak_secret(self) -> None:
        for secret, count in (("short", 1), ("x" * 32, 0), ("ü" * 16, 0)):
            credential = Credential.objects.create(backend=make_backend(), kind="hmac_secret", secret=secret)
            found = credential_diagnostics(credential)
            self.assertEqual(len(found), count)
            self.assertNotIn(secret, "".join(found))

    def test_a_secret_that_can_not_be_decrypted(self) -> None:
        credential = make_served_backend().credential
        with override_settings(FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
            [warning] = credential_diagnostics(Credential.objects.get(pk=credential.pk))
        self.assertIn("enter the value again", warning)


class BackendDiagnosticTests(TestCase):
    def test_a_backend_that_serves_has_none(self) -> None:
        backend = make_served_backend()
        credential = backend.credential
        credential.secret = "s" * 32
        credential.save()
        self.assertEqual(backend_diagnostics(Backend.objects.get(pk=backend.pk)), [])

    def test_an_empty_backend_is_told_all_that_it_lacks(self) -> None:
        found = " ".join(backend_diagnostics(make_backend()))
        for words in ("no credential", "no enabled node", "claims nothing", "no port mapping"):
            self.assertIn(words, found)

    def test_disabled_nodes_unmapped_claims_and_empty_mappings(self) -> None:
        backend = make_served_backend()
        NexusNode.objects.update(enabled=False)
        PortClaim.objects.create(backend=backend, public_port=53, transport="udp")
        PortMapping.objects.create(backend=backend, public_port=8080)
        found = " ".join(backend_diagnostics(Backend.objects.get(pk=backend.pk)))
        for words in ("no enabled node", "UDP port 53", "TCP port 8080"):
            self.assertIn(words, found)

    def test_host_routes_that_no_hostname_reaches(self) -> None:
        for hostname, pattern, reached in (
            ("shop.example.org", "elsewhere.example.org", False),
            ("shop.example.org", "shop.example.org", True),
            ("*.example.com", "a.example.com", True),
            ("*.example.com", "a.b.example.com", False),
            ("*.example.com", "*.example.com", True),
            ("*.example.com", "example.com", False),
            ("b.example.com", "*.example.com", True),
            ("a.b.example.com", "*.example.com", False),
            ("*.b.example.com", "*.example.com", False),
        ):
            with self.subTest(hostname=hostname, pattern=pattern):
                backend = make_backend()
                backend.hostnames.add(Hostname.objects.create(tenant=backend.tenant, name=hostname))
                mapping = PortMapping.objects.create(backend=backend, public_port=443)
                HostRoute.objects.create(port_mapping=mapping, pattern=pattern, target="localhost:1")
                found = " ".join(backend_diagnostics(backend))
                self.assertEqual(f"no hostname of the backend reaches: {pattern}." not in found, reached, found)
                Hostname.objects.all().delete()

    def test_a_claimed_port_brings_no_hostname_and_a_token_does(self) -> None:
        backend = make_backend()
        PortClaim.objects.create(backend=backend, public_port=53, transport="tcp")
        mapping = PortMapping.objects.create(backend=backend, public_port=53)
        HostRoute.objects.create(port_mapping=mapping, pattern="app.example.com", target="localhost:1")
        self.assertIn("TCP port 53 has host routes that no hostname", " ".join(backend_diagnostics(backend)))
        token = make_token(hostnames=["*.example.com"])
        Credential.objects.create(backend=backend, kind="presigned_token", secret=token)
        found = backend_diagnostics(Backend.objects.get(pk=backend.pk))
        self.assertNotIn("no hostname", " ".join(found))

    def test_a_list_costs_a_constant_number_of_queries(self) -> None:
        for _ in range(5):
            make_served_backend()
        with self.assertNumQueries(9):
            for backend in with_details(Backend.objects.all()):
                backend_diagnostics(backend)
