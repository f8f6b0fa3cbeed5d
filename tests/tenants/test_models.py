from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, override_settings
from django.utils import timezone

from tenants.changes.base import RegistryModel
from tenants.models import (
    Backend,
    BackendHostname,
    BackendNode,
    Change,
    Credential,
    CredentialKind,
    Domain,
    GenerationCounter,
    Hostname,
    HostnameGrant,
    HostRoute,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Site,
    Tenant,
)
from tests.support.registry import make_backend, make_domain, make_node, make_served_backend, make_tenant, make_token

MODELS = (
    Backend, BackendHostname, BackendNode, Change, Credential, Domain, GenerationCounter, Hostname, HostnameGrant,
    HostRoute, Membership, NexusNode, PortClaim, PortMapping, Site, Tenant,
)  # fmt: skip


class ConstraintTests(TestCase):
    """Every invariant holds in the database, and says in words what is wrong before it gets there."""

    def test_every_constraint_has_a_message_of_its_own(self) -> None:
        for model in MODELS:
            self.assertTrue(model._meta.constraints, model)
            for constraint in model._meta.constraints:
                with self.subTest(constraint.name):
                    self.assertTrue(constraint.name.startswith(model._meta.model_name + "_"))
                    self.assertNotIn("is violated", str(constraint.violation_error_message))

    def assertRefused(self, name: str, row: RegistryModel) -> None:
        """Assert that the database refuses the row, and that full_clean says so in the constraint's words."""
        [constraint] = [found for found in row._meta.constraints if found.name == name]
        with self.assertRaises(ValidationError) as caught:
            row.validate_constraints()
        self.assertIn(constraint.violation_error_message, caught.exception.messages)
        with self.assertRaises(IntegrityError), transaction.atomic():
            row.derive()
            row.save_base(raw=True)  # as fixtures do: by none of our own checks

    def test_rows_that_break_one(self) -> None:
        backend = make_served_backend()
        tenant, node, hostname = backend.tenant, backend.nodes.get(), backend.hostnames.get()
        mapping, route = backend.port_mappings.get(), HostRoute.objects.get()
        PortClaim.objects.create(backend=backend, public_port=53)
        make_domain(tenant, "claimed.example.com", None)
        make_domain(tenant, "proved.example.com")
        HostnameGrant.objects.create(tenant=tenant, name="claimed.example.com", grantee_slug="other")
        cases: dict[str, RegistryModel] = {
            "tenant_slug_unique": Tenant(slug=tenant.slug),
            "tenant_slug_not_empty": Tenant(slug=""),
            "site_slug_unique": Site(slug=Site.objects.create(slug="east").slug),
            "site_slug_not_empty": Site(slug=""),
            "nexusnode_name_unique": NexusNode(name=node.name, address="wss://other.example.com"),
            "nexusnode_address_unique": NexusNode(name="other", address=node.address),
            "backend_name_unique_in_tenant": Backend(tenant=tenant, name=backend.name),
            "backend_name_not_empty": Backend(tenant=tenant, name=""),
            "backend_weight_positive": Backend(tenant=tenant, name="w", weight=0),
            "backend_flow_marks_ordered": Backend(tenant=tenant, name="f", flow_low_water=48),
            "backend_health_check_positive": Backend(tenant=tenant, name="h", health_check_pong_timeout=0),
            "backend_outbound_ports_need_outbound": Backend(tenant=tenant, name="o", allowed_outbound_ports=[25]),
            "backendnode_unique": BackendNode(backend=backend, node=node),
            "backendhostname_unique": BackendHostname(backend=backend, hostname=hostname),
            "hostname_name_unique": Hostname(tenant=make_tenant(), name=hostname.name),
            "hostname_name_not_empty": Hostname(tenant=tenant, name=""),
            "domain_tenant_name_unique": Domain(tenant=tenant, name="claimed.example.com"),
            "domain_verified_name_unique": Domain(
                tenant=make_tenant(), name="proved.example.com", verified_by="dns", verified_at=timezone.now()
            ),
            "domain_name_token_not_empty": Domain(tenant=tenant, name="empty.example.com", token=""),
            "domain_verified_by_known": Domain(tenant=tenant, name="by.example.com", verified_by="dns"),
            "hostnamegrant_unique": HostnameGrant(tenant=tenant, name="claimed.example.com", grantee_slug="other"),
            "hostnamegrant_name_grantee_not_empty": HostnameGrant(tenant=tenant, name="x.example.com"),
            "portclaim_unique": PortClaim(backend=backend, public_port=53),
            "portclaim_transport_known": PortClaim(backend=backend, transport="ip", public_port=1),
            "portclaim_port_range": PortClaim(backend=backend, public_port=65536),
            "portclaim_flow_idle_timeout_udp": PortClaim(backend=backend, public_port=54, flow_idle_timeout=5),
            "portmapping_unique": PortMapping(backend=backend, public_port=mapping.public_port),
            "portmapping_transport_known": PortMapping(backend=backend, transport="ip", public_port=1),
            "portmapping_port_range": PortMapping(backend=backend, public_port=0),
            "backend_removal_mode_known": Backend(tenant=tenant, name="r", removal_mode="later"),
            "portmapping_proxy_protocol_known": PortMapping(backend=backend, public_port=1, proxy_protocol="v3"),
            "portmapping_proxy_protocol_udp": PortMapping(
                backend=backend, public_port=1, transport="udp", proxy_protocol="v1"
            ),
            "portmapping_target_order_known": PortMapping(backend=backend, public_port=1, target_order="random"),
            "portmapping_dial_timeout_range": PortMapping(backend=backend, public_port=1, dial_timeout=61),
            "portmapping_target_health_positive": PortMapping(backend=backend, public_port=1, target_health_up_after=0),
            "portmapping_access_mode_known": PortMapping(backend=backend, public_port=1, access_mode="ask"),
            "hostroute_pattern_unique": HostRoute(port_mapping=mapping, pattern=route.pattern, target="localhost:1"),
            "credential_kind_known": Credential(backend=make_backend(), kind="magic"),
            "credential_secret_file_present": Credential(backend=make_backend(), kind="hmac_secret_file"),
            "credential_command_present": Credential(backend=make_backend(), kind="command"),
            "credential_times_positive": Credential(backend=make_backend(), kind="command", command="/x", timeout=0),
        }
        for name, row in cases.items():
            with self.subTest(name):
                self.assertRefused(name, row)

    def test_one_credential_for_a_backend_and_one_counter(self) -> None:
        backend = make_served_backend()
        with self.assertRaises(ValidationError):
            Credential(backend=backend, kind="command", command="/x").full_clean()
        with self.assertRaises(IntegrityError), transaction.atomic():
            GenerationCounter.objects.create(pk=2)

    def test_the_database_itself_refuses_a_credential_without_its_secret(self) -> None:
        make_served_backend()
        with self.assertRaises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_credential SET secret = NULL")


class NormalFormTests(TestCase):
    def test_saving_stores_the_normal_form(self) -> None:
        tenant, backend = make_tenant(), make_backend()
        hostname = Hostname.objects.create(tenant=tenant, name="  Bücher.Example.com. ")
        self.assertEqual(hostname.name, "xn--bcher-kva.example.com")
        node = make_node(address="WSS://Nexus.Example.com:443")
        self.assertEqual(node.address, "wss://nexus.example.com/connect")
        mapping = PortMapping.objects.create(backend=backend, public_port=443, default_target="[::0:1]:80")
        self.assertEqual(mapping.default_target, "[::1]:80")
        route = HostRoute.objects.create(port_mapping=mapping, pattern="*.A.example.com", target="LOCALHOST:1")
        self.assertEqual((route.pattern, route.target), ("*.a.example.com", "localhost:1"))

    def test_lists_of_targets_and_networks_have_one_form(self) -> None:
        mapping = PortMapping.objects.create(
            backend=make_backend(),
            public_port=443,
            default_target="B.example:1, unix:///run/a.sock",
            access_allow="192.0.2.7,2001:DB8:0::/32  192.0.2.7/32",
        )
        self.assertEqual(mapping.default_target, "b.example:1,unix:/run/a.sock")
        self.assertEqual(mapping.access_allow, "192.0.2.7/32, 2001:db8::/32")
        for name, value, words in (
            ("default_target", "a.example:1,a.example:1", "stands twice"),
            ("access_deny", "192.0.2.1/24", "write 192.0.2.0/24"),
            ("access_deny", "elsewhere", "neither an address nor a network"),
        ):
            with self.assertRaises(ValidationError) as caught:
                PortMapping(backend=mapping.backend, public_port=1, **{name: value}).full_clean()
            self.assertIn(words, str(caught.exception))

    def test_two_spellings_of_one_name_are_one_hostname(self) -> None:
        Hostname.objects.create(tenant=make_tenant(), name="app.example.com")
        with self.assertRaises(ValidationError) as caught:
            Hostname(tenant=make_tenant(), name="APP.example.com.").full_clean()
        self.assertIn("taken", str(caught.exception))

    def test_what_has_no_normal_form_is_refused_with_the_value_and_the_remedy(self) -> None:
        tenant, backend = make_tenant(), make_backend()
        mapping = PortMapping.objects.create(backend=backend, public_port=443)
        builders: list[tuple[str, Callable[[str], RegistryModel], tuple[str, ...]]] = [
            (
                "name",
                lambda text: Hostname(tenant=tenant, name=text),
                ("a b", "*.com", "tcp:53", "x" * 64 + ".com", ""),
            ),
            (
                "address",
                lambda text: NexusNode(name="n", address=text),
                ("https://x", "ws://x.example.com", "wss://u:p@x"),
            ),
            (
                "target",
                lambda text: HostRoute(port_mapping=mapping, pattern="a.example.com", target=text),
                ("localhost", "localhost:0", "http://x:1", "unix:relative", ""),
            ),
        ]
        for field, build, texts in builders:
            for text in texts:
                with self.subTest(field=field, text=text):
                    with self.assertRaises(ValidationError) as caught:
                        build(text).full_clean()
                    self.assertIn(field, caught.exception.message_dict)
                    with self.assertRaises(ValidationError):
                        build(text).save()

    def test_insecure_nodes_need_the_setting(self) -> None:
        make_node(address="ws://127.0.0.1:9000/connect")
        with override_settings(ALLOW_INSECURE_NODES=True):
            make_node(address="ws://nexus.example.com/connect")

    def test_lists_environments_and_certificates_are_checked(self) -> None:
        backend = make_backend()
        bad: list[tuple[str, RegistryModel]] = [
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[0])),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports={"25": 1})),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[25, 25])),
            ("allowed_outbound_ports", Backend(tenant=backend.tenant, name="p", allowed_outbound_ports=[True])),
            ("site", Backend(tenant=backend.tenant, name="p", site="two words")),
            ("socks5_listen", Backend(tenant=backend.tenant, name="p", socks5_listen="1080")),
            ("socks5_listen", Backend(tenant=backend.tenant, name="p", socks5_listen="unix:/run/x")),
            ("args", Credential(backend=backend, kind="command", command="/x", args="--flag")),
            ("env", Credential(backend=backend, kind="command", command="/x", env={"A=B": "c"})),
            ("ca_pem", NexusNode(name="n", address="wss://n.example.com", ca_pem="no certificate")),
        ]
        for field, row in bad:
            with self.subTest(field=field), self.assertRaises(ValidationError) as caught:
                row.full_clean()
            self.assertIn(field, caught.exception.message_dict)


class TenantOwnershipTests(TestCase):
    def test_a_backend_serves_its_own_tenants_hostnames_only(self) -> None:
        backend = make_backend()
        foreign = Hostname.objects.create(tenant=make_tenant(), name="foreign.example.com")
        link = BackendHostname(backend=backend, hostname=foreign)
        for write in (link.full_clean, link.save, lambda: backend.hostnames.add(foreign)):
            with self.assertRaisesMessage(ValidationError, "belongs to another tenant"), transaction.atomic():
                write()
        with self.assertRaisesMessage(ValidationError, "belongs to another tenant"):
            BackendHostname.objects.bulk_create([link])

    def test_what_is_linked_does_not_move_to_another_tenant(self) -> None:
        backend, elsewhere = make_served_backend(), make_tenant()
        for row in (backend, backend.hostnames.get()):
            row.tenant = elsewhere
            with self.assertRaisesMessage(ValidationError, "while it is linked"):
                row.save()
        backend.refresh_from_db()
        backend.hostnames.clear()
        backend.tenant = elsewhere
        backend.save()
        self.assertEqual(Backend.objects.get(pk=backend.pk).tenant, elsewhere)


class CredentialTests(TestCase):
    def make(self, **fields: Any) -> Credential:
        return Credential.objects.create(backend=make_backend(), **fields)

    def test_claims_and_fingerprint_are_kept_beside_a_token(self) -> None:
        token = make_token(exp=2_000_000_000, hostnames=["app.example.com", "*.x.example.com"])
        credential = self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=f" {token}\n")
        credential.refresh_from_db()
        self.assertEqual(credential.secret, token)
        self.assertEqual(credential.claims_expires_at.timestamp(), 2_000_000_000)
        self.assertEqual(credential.claims_hostnames, ["app.example.com", "*.x.example.com"])
        self.assertRegex(credential.fingerprint, r"^[0-9a-f]{16}$")
        old = credential.fingerprint
        credential.secret = make_token(hostname="app.example.com")
        credential.save(update_fields=["secret"])
        credential.refresh_from_db()
        self.assertNotEqual(credential.fingerprint, old)
        self.assertEqual((credential.claims_expires_at, credential.claims_hostnames), (None, ["app.example.com"]))

    def test_what_stands_in_mails_tokens_and_files_is_one_line(self) -> None:
        backend = make_backend()
        for text in ("x\r\nHost: y", "x\n", "\u202ex", "x\u2028y"):
            for row, name in (
                (Credential(backend=backend, kind=CredentialKind.TENANT_KEY), "authorizer_status_uri"),
                (Credential(backend=backend, kind=CredentialKind.TENANT_KEY), "policy_version"),
                (Backend(tenant=backend.tenant), "name"),
            ):
                setattr(row, name, text)
                with self.subTest(name=name, text=text), self.assertRaisesMessage(ValidationError, "write one line"):
                    row.full_clean()

    def test_an_expiry_that_no_calendar_holds_is_no_error(self) -> None:
        for exp in (10**30, -(10**30), 1e300):
            credential = self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=make_token(exp=exp, hostnames=[]))
            self.assertIsNone(credential.claims_expires_at)

    def test_what_is_no_token_is_refused_without_showing_it(self) -> None:
        for text in ("hunter2", "a.b.c", "eyJ.hunter2.x", "..", "hunter2." * 3):
            with self.subTest(text), self.assertRaises(ValidationError) as caught:
                self.make(kind=CredentialKind.PRESIGNED_TOKEN, secret=text)
            self.assertIn("secret", caught.exception.message_dict)
            self.assertNotIn("hunter2", str(caught.exception))

    def test_a_secret_is_needed(self) -> None:
        for secret in (None, "", "  "):
            for kind in (CredentialKind.HMAC_SECRET, CredentialKind.PRESIGNED_TOKEN):
                with self.assertRaises(ValidationError):
                    self.make(kind=kind, secret=secret)

    def test_equal_secrets_have_equal_fingerprints_that_depend_on_the_key(self) -> None:
        one, two = (self.make(kind=CredentialKind.HMAC_SECRET, secret="password1") for _ in range(2))
        self.assertEqual(one.fingerprint, two.fingerprint)
        with override_settings(SECRET_KEY="another" * 10):
            self.assertNotEqual(self.make(kind="hmac_secret", secret="password1").fingerprint, one.fingerprint)

    def test_another_kind_leaves_nothing_of_the_old_one(self) -> None:
        credential = self.make(kind=CredentialKind.HMAC_SECRET, secret="x" * 32)
        credential.kind, credential.command, credential.args = CredentialKind.COMMAND, "/bin/true", ["-a", "b"]
        credential.env = {"B": "1", "A": "2"}
        credential.save()
        credential.refresh_from_db()
        self.assertIsNone(credential.secret)
        self.assertEqual(
            (credential.fingerprint, credential.args, credential.env), ("", ["-a", "b"], {"B": "1", "A": "2"})
        )
        credential.kind, credential.secret_file = CredentialKind.HMAC_SECRET_FILE, "/etc/nexus/key"
        credential.save()
        credential.refresh_from_db()
        self.assertEqual((credential.command, credential.args, credential.env), ("", [], None))

    def test_texts_hold_no_secret(self) -> None:
        backend = make_served_backend()
        for row in (
            backend,
            backend.credential,
            backend.tenant,
            *backend.node_links.all(),
            *backend.hostname_links.all(),
        ):
            self.assertNotIn("not so secret", f"{row} {row!r}")


class OrderTests(TestCase):
    def test_nodes_and_hostnames_keep_the_order_of_their_file(self) -> None:
        backend = make_backend()
        nodes = [make_node() for _ in range(3)]
        for position, node in enumerate(reversed(nodes)):
            BackendNode.objects.create(backend=backend, node=node, position=position)
        self.assertEqual([link.node for link in backend.node_links.all()], nodes[::-1])
