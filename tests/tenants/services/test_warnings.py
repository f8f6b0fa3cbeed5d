from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet
from django.test import TestCase, override_settings

from tenants.models import Backend, Credential, Hostname, HostRoute, NexusNode, PortClaim, PortMapping
from tenants.models.backend import with_details
from tenants.services.warnings import backend_warnings, credential_warnings
from tests.support.registry import make_backend, make_served_backend, make_token

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class CredentialWarningTests(TestCase):
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
            (timedelta(days=6), "expires on 2026-06-07 00:00 UTC"),
            (timedelta(days=8), ""),
        ):
            credential = self.token([], [], exp=int((NOW + lifetime).timestamp()))
            found = credential_warnings(credential, NOW)
            with self.subTest(lifetime):
                self.assertEqual(len(found), bool(words))
                self.assertIn(words, "".join(found))
        self.assertEqual(credential_warnings(self.token([], []), NOW), [])

    def test_claims_that_lack_a_hostname(self) -> None:
        credential = self.token(
            ["app.example.com", "one.wild.example.com", "*.sub.example.com", "lacking.example.com"],
            ["APP.example.com.", "*.wild.example.com", "*.sub.example.com", "more.example.com"],
        )
        [warning] = credential_warnings(credential, NOW)
        self.assertIn("lacking.example.com", warning)
        for name in ("app", "one", "sub"):
            self.assertNotIn(f"{name}.", warning)

    def test_many_lacking_hostnames_are_counted(self) -> None:
        [warning] = credential_warnings(self.token([f"h{n}.example.com" for n in range(8)], []), NOW)
        self.assertIn("and 3 more", warning)

    def test_weak_secret(self) -> None:
        for secret, count in (("short", 1), ("x" * 32, 0), ("ü" * 16, 0)):
            credential = Credential.objects.create(backend=make_backend(), kind="hmac_secret", secret=secret)
            found = credential_warnings(credential)
            self.assertEqual(len(found), count)
            self.assertNotIn(secret, "".join(found))

    def test_a_secret_that_can_not_be_decrypted(self) -> None:
        credential = make_served_backend().credential
        with override_settings(FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
            [warning] = credential_warnings(Credential.objects.get(pk=credential.pk))
        self.assertIn("enter the value anew", warning)


class BackendWarningTests(TestCase):
    def test_a_backend_that_serves_has_none(self) -> None:
        backend = make_served_backend()
        credential = backend.credential
        credential.secret = "s" * 32
        credential.save()
        self.assertEqual(backend_warnings(Backend.objects.get(pk=backend.pk)), [])

    def test_an_empty_backend_is_told_all_that_it_lacks(self) -> None:
        found = " ".join(backend_warnings(make_backend()))
        for words in ("no credential", "no enabled node", "claims nothing", "no port mapping"):
            self.assertIn(words, found)

    def test_disabled_nodes_unmapped_claims_and_empty_mappings(self) -> None:
        backend = make_served_backend()
        NexusNode.objects.update(enabled=False)
        PortClaim.objects.create(backend=backend, public_port=53, transport="udp")
        PortMapping.objects.create(backend=backend, public_port=8080)
        found = " ".join(backend_warnings(Backend.objects.get(pk=backend.pk)))
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
                found = " ".join(backend_warnings(backend))
                self.assertEqual(f"no hostname of the backend reaches: {pattern}." not in found, reached, found)
                Hostname.objects.all().delete()

    def test_a_claimed_port_brings_no_hostname_and_a_token_does(self) -> None:
        backend = make_backend()
        PortClaim.objects.create(backend=backend, public_port=53, transport="tcp")
        mapping = PortMapping.objects.create(backend=backend, public_port=53)
        HostRoute.objects.create(port_mapping=mapping, pattern="app.example.com", target="localhost:1")
        self.assertIn("TCP port 53 has host routes that no hostname", " ".join(backend_warnings(backend)))
        token = make_token(hostnames=["*.example.com"])
        Credential.objects.create(backend=backend, kind="presigned_token", secret=token)
        found = backend_warnings(Backend.objects.get(pk=backend.pk))
        self.assertNotIn("no hostname", " ".join(found))

    def test_a_list_costs_a_constant_number_of_queries(self) -> None:
        for _ in range(5):
            make_served_backend()
        with self.assertNumQueries(8):
            for backend in with_details(Backend.objects.all()):
                backend_warnings(backend)
