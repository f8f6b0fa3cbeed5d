"""Tests of importing configuration documents: the registry holds what files say, and says it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from django.db import DatabaseError, connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.django import TestCase as HypothesisTestCase

from relay.config import HmacSecret, HmacSecretFile, Limits, PresignedToken, Removal, RemovalMode, UdpRoute
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.configfile import (
    BackendDocument,
    ConfigDocument,
    ConfigFileError,
    PortMappingDocument,
    dump,
    parse_config,
    read_config_file,
)
from tenants.changes import generations
from tenants.models import (
    Backend,
    BackendHostname,
    Change,
    Credential,
    Hostname,
    HostRoute,
    NexusNode,
    PortMapping,
    Tenant,
)
from tenants.services.config_import.backend_states import load
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import ImportSummary, import_config
from tenants.services.config_import.tenant import UnknownTenant
from tests.relay.configfile.documents import documents, token
from tests.support.registry import make_served_backend, make_tenant

CONFIGS = Path(__file__).parents[3] / "data" / "configs"


def backend(name: str = "edge", **fields: Any) -> BackendDocument:
    """A small backend, as a file may hold it."""
    found = BackendDocument(
        name=name,
        hostnames=(f"{name}.example.com",),
        nexus_addresses=("wss://nexus.example.com/connect",),
        port_mappings=(PortMappingDocument(443, "localhost:8443", (("api.example.com", "localhost:9443"),)),),
        credential=HmacSecret(f"secret of {name}"),
    )
    return replace(found, **fields)


def run(*backends: BackendDocument, **options: Any) -> ImportSummary:
    return import_config(ConfigDocument(backends, "nexus.yaml"), **options)


def lines(summary: ImportSummary) -> list[str]:
    return [str(change) for change in summary.changes]


class ExistingFilesTests(TestCase):
    def test_both_generations_import_and_come_out_again(self) -> None:
        for name in ("attested", "token"):
            with self.subTest(name):
                tenant = make_tenant().slug
                document = read_config_file(CONFIGS / f"{name}.yaml")
                self.assertEqual(
                    import_config(document, tenant=tenant).count("create", "backend"), len(document.backends)
                )
                exported = export_config(tenant, secrets=True)
                self.assertEqual(exported.warnings, ())
                self.assertEqual(
                    exported.document.backends, tuple(sorted(document.backends, key=lambda found: found.name))
                )
                again = parse_config(dump(exported.document, include_secrets=True).encode(), "again.yaml")
                self.assertEqual(import_config(again, tenant=tenant).changes, ())
                Tenant.objects.filter(slug=tenant).delete()

    def test_rows(self) -> None:
        import_config(read_config_file(CONFIGS / "attested.yaml"))
        edge = Backend.objects.get(tenant__slug="default", name="edge-apps")
        self.assertEqual(
            [link.hostname.name for link in edge.hostname_links.all()], ["app.example.com", "*.preview.example.com"]
        )
        self.assertEqual(
            list(edge.port_mappings.values_list("transport", "public_port", "default_target")),
            [
                ("tcp", 53, "localhost:5353"),
                ("udp", 53, "localhost:5353"),
                ("tcp", 443, "localhost:8443"),
                ("tcp", 993, "localhost:993"),
            ],
        )
        self.assertEqual(edge.credential.env, {"AUTHORIZER_BASE_URL": "https://authorizer.example.com"})
        self.assertEqual(edge.credential.timeout, 20)
        secret = Credential.objects.get(backend__name="with-secret")
        self.assertEqual(secret.secret, "not a real secret")
        self.assertTrue(secret.fingerprint)

    def test_the_claims_of_a_token_are_kept(self) -> None:
        import_config(read_config_file(CONFIGS / "token.yaml"))
        credential = Credential.objects.get(backend__name="mail")
        self.assertEqual(credential.claims_hostnames, ["mail.example.com", "*.mail.example.com"])
        self.assertEqual(credential.claims_expires_at.year, 2100)


# The documents' commands are any text, which YAML has to keep; which of them may run is told elsewhere.
@mock.patch("tenants.services.config_import.checks.check_command", lambda command: None)
@mock.patch("tenants.rules.commands.check_command", lambda command: None)
class FixedPointTests(HypothesisTestCase):
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(documents(), documents())
    def test_any_two_documents_one_after_the_other(self, first: ConfigDocument, second: ConfigDocument) -> None:
        """Import, export, import is a fixed point; and from any state, a file leads to what it says."""
        for document in (first, second):
            import_config(document, prune=True)
            exported = export_config(secrets=True).document
            self.assertEqual(
                {found.name: found for found in exported.backends}, {found.name: found for found in document.backends}
            )
            generation = generations.current()
            again = parse_config(dump(exported, include_secrets=True).encode(), "again.yaml")
            self.assertEqual(import_config(again, prune=True).changes, ())
            self.assertEqual(import_config(document, prune=True).changes, ())
            self.assertEqual(generations.current(), generation)


class ChangeTests(TestCase):
    def setUp(self) -> None:
        run(backend(), backend("other"))
        self.backend = Backend.objects.get(name="edge")

    def change(self, **fields: Any) -> list[str]:
        """Import the backend changed, check that the registry then holds it, and return the words for it."""
        wanted = backend(**fields)
        dry = run(wanted, backend("other"), dry_run=True)
        self.assertEqual(load(self.backend.tenant)["edge"].pk, self.backend.pk)
        summary = run(wanted, backend("other"))
        self.assertEqual(summary.changes, dry.changes)
        self.assertEqual(summary.unchanged, 1 if summary.changes else 2)
        exported = {found.name: found for found in export_config(secrets=True).document.backends}
        self.assertEqual(exported["edge"], wanted)
        self.assertEqual(Backend.objects.get(name="edge").pk, self.backend.pk)
        self.assertEqual(run(wanted, backend("other")).changes, ())
        return [detail for found in summary.changes if found.name == "edge" for detail in found.details]

    def test_nothing(self) -> None:
        generation, changed = generations.current(), Backend.objects.get(name="edge").updated_at
        self.assertEqual(self.change(), [])
        self.assertEqual(generations.current(), generation)
        self.assertEqual(Backend.objects.get(name="edge").updated_at, changed)

    def test_weight_alone_writes_one_root(self) -> None:
        generation = generations.current()
        self.assertEqual(self.change(weight=3), ["weight 1 → 3"])
        changes = generations.changes_since(generation)
        self.assertEqual(changes.backends, {self.backend.pk})
        self.assertEqual(Change.objects.filter(generation__gt=generation).count(), 1)

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

    def test_credentials_are_told_apart_by_fingerprint(self) -> None:
        (words,) = self.change(credential=HmacSecret("another secret"))
        self.assertRegex(words, r"^credential HMAC secret [0-9a-f]{16} → HMAC secret [0-9a-f]{16}$")
        (words,) = self.change(credential=PresignedToken(token(hostnames=["edge.example.com"])))
        self.assertRegex(words, r"^credential HMAC secret [0-9a-f]{16} → token [0-9a-f]{16}$")
        self.assertEqual(Credential.objects.get(backend=self.backend).claims_hostnames, ["edge.example.com"])
        (words,) = self.change(credential=HmacSecretFile("/etc/key"))
        self.assertRegex(words, r"→ HMAC secret file /etc/key$")

    def test_a_credential_that_can_not_be_decrypted_is_replaced(self) -> None:
        with self.settings(FIELD_ENCRYPTION_KEYS=["bm90IHRoZSBrZXkgdGhhdCB3YXMgdXNlZCBiZWZvcmU="]):
            self.assertRegex(
                lines(run(backend()))[0],
                "credential HMAC secret one that can not be decrypted → HMAC secret [0-9a-f]+$",
            )
            self.assertEqual(Credential.objects.get(backend=self.backend).secret, "secret of edge")

    def test_what_no_file_says_stays(self) -> None:
        self.backend.enabled, self.backend.site = False, "here"
        self.backend.save()
        NexusNode.objects.update(name="ours", enabled=False)
        self.assertEqual(run(backend(weight=2), backend("other")).count("change", "backend"), 1)
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.enabled, self.backend.site, self.backend.weight), (False, "here", 2))
        self.assertEqual(NexusNode.objects.get().name, "ours")

    def test_prune(self) -> None:
        elsewhere = make_served_backend()
        summary = run(backend())
        self.assertEqual((summary.changes, summary.left, summary.unchanged), ((), 1, 1))
        expected = ["remove backend other", "remove hostname other.example.com"]
        self.assertEqual(lines(run(backend(), prune=True, dry_run=True)), expected)
        self.assertEqual(lines(run(backend(), prune=True)), expected)
        self.assertEqual(set(Backend.objects.all()), {self.backend, elsewhere})
        self.assertFalse(Hostname.objects.filter(name="other.example.com").exists())
        self.assertEqual(run(backend(), prune=True).changes, ())

    def test_a_hostname_moves_from_a_backend_to_another(self) -> None:
        run(backend("other", hostnames=("edge.example.com",)), backend(hostnames=("new.example.com",)))
        self.assertEqual(
            set(BackendHostname.objects.values_list("backend__name", "hostname__name")),
            {("other", "edge.example.com"), ("edge", "new.example.com")},
        )


class ExtrasTests(TestCase):
    """What only this project's files say."""

    OPTIONS = PortOptions(
        proxy_protocol=ProxyProtocol.V2,
        target_order=TargetOrder.ROUND_ROBIN,
        access=AccessList(("192.0.2.0/24", "2001:db8::/32"), ("192.0.2.7/32",), AccessMode.OBSERVE),
        target_health=TargetHealth(5.0, 1.0, 3, 4),
        dial_timeout=3.0,
    )

    def test_it_comes_out_again_and_a_second_run_changes_nothing(self) -> None:
        full = backend(
            port_mappings=(PortMappingDocument(443, "a.example:1,b.example:2", (), self.OPTIONS),),
            limits=Limits(1, 2, 3, 4),
            removal=Removal(RemovalMode.KILL, 9.0),
        )
        run(full)
        self.assertEqual(export_config().document.backends, (full,))
        self.assertEqual(run(full).changes, ())

    def test_a_change_of_each_is_named_and_what_the_file_leaves_out_is_the_default_again(self) -> None:
        plain = backend()
        mapping = plain.port_mappings[0]
        run(plain)
        changed = backend(
            port_mappings=(replace(mapping, options=self.OPTIONS),),
            limits=Limits(max_streams=5),
            removal=Removal(RemovalMode.KILL),
        )
        [line] = lines(run(changed))
        for words in (
            "max streams 0 → 5",
            "removal mode drain → kill",
            "tcp 443 proxy protocol none → v2",
            "tcp 443 access allow none → 192.0.2.0/24, 2001:db8::/32",
            "tcp 443 dial timeout 8 → 3",
        ):
            self.assertIn(words, line)
        self.assertEqual(export_config().document.backends, (changed,))
        run(plain)
        self.assertEqual(export_config().document.backends, (plain,))

    def test_a_value_that_is_too_long_for_the_registry_is_named_and_nothing_is_changed(self) -> None:
        networks = tuple(f"2001:db8:{number:x}::/48" for number in range(2_000))
        options = PortOptions(access=AccessList(networks))
        with self.assertRaisesMessage(ConfigFileError, "allowed networks"):
            run(backend("one"), backend("two", port_mappings=(PortMappingDocument(443, "a.example:1", (), options),)))
        self.assertFalse(Backend.objects.exists())


class AllOrNothingTests(TestCase):
    def rows(self) -> list[Any]:
        models = (Tenant, Backend, Hostname, NexusNode, PortMapping, HostRoute, Credential, Change)
        return [list(model._default_manager.order_by("pk").values_list()) for model in models]

    def test_a_dry_run_writes_nothing(self) -> None:
        before = self.rows()
        summary = run(backend(), dry_run=True)
        self.assertEqual(self.rows(), before)
        self.assertEqual(
            lines(summary),
            [
                "create tenant default",
                "create node nexus.example.com: wss://nexus.example.com/connect",
                lines(summary)[2],
            ],
        )
        self.assertRegex(
            lines(summary)[2], "^create backend edge: 1 hostname; 1 node; maps tcp 443; HMAC secret [0-9a-f]{16}$"
        )

    def test_a_hostname_of_another_tenant(self) -> None:
        theirs = make_served_backend(make_tenant(slug="rival", name="Rival & Co"), hostname="taken.example.com")
        before = self.rows()
        text = dump(
            ConfigDocument((backend(), backend("b", hostnames=("b.example.com", "taken.example.com")))),
            include_secrets=True,
        )
        for dry_run in (True, False):
            with self.assertRaises(ConfigFileError) as raised:
                import_config(parse_config(text.encode(), "nexus.yaml"), dry_run=dry_run)
            self.assertRegex(
                str(raised.exception),
                r"^nexus\.yaml:\d+:\d+: backends\[1\]\.hostnames\[1\]: the hostname 'taken\.example\.com' belongs to",
            )
            self.assertNotRegex(str(raised.exception), "(?i)rival")
            self.assertEqual(self.rows(), before)
        self.assertEqual(theirs.hostnames.get().name, "taken.example.com")

    def test_the_same_in_the_single_form(self) -> None:
        make_served_backend(hostname="taken.example.com")
        text = (CONFIGS / "token.yaml").read_text().replace("hostname: old.example.com", "hostname: taken.example.com")
        with self.assertRaisesRegex(ConfigFileError, r":13:15: backends\[1\]\.hostname: "):
            import_config(parse_config(text.encode(), "nexus.yaml"))

    def test_a_failure_at_the_last_write_undoes_all(self) -> None:
        before = self.rows()
        with mock.patch.object(Credential, "normalise", side_effect=DatabaseError("row of secrets")):
            with self.assertRaises(ConfigFileError) as raised:
                run(backend())
        self.assertNotIn("secrets", str(raised.exception))
        self.assertEqual(self.rows(), before)

    def test_the_tenant(self) -> None:
        with self.assertRaises(UnknownTenant):
            run(backend(), tenant="nobody")
        self.assertFalse(Tenant.objects.exists())
        mine = make_tenant()
        run(backend(), tenant=mine.slug)
        self.assertEqual(Backend.objects.get().tenant, mine)

    def test_two_tenants_may_use_the_same_names_and_nodes(self) -> None:
        one, two = make_tenant(), make_tenant()
        run(backend(), tenant=one.slug)
        run(backend(hostnames=("x.example.com",)), tenant=two.slug, prune=True)
        self.assertEqual(Backend.objects.filter(name="edge").count(), 2)
        self.assertEqual(NexusNode.objects.count(), 1)


class CostTests(TestCase):
    def queries(self, number: int, **fields: Any) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            run(*(backend(f"edge-{index}", **fields) for index in range(number)))
        return len(queries)

    def test_queries_do_not_grow_with_the_file(self) -> None:
        self.queries(1)
        nothing = self.queries(1)
        # Another 40 backends fit into the batches of one.
        self.assertLess(self.queries(41), 3 * nothing + 60)
        self.assertEqual(self.queries(41), nothing)
        one = self.queries(1, weight=2)
        self.assertLessEqual(self.queries(41, weight=3), one + 2)


class BoundsTests(TestCase):
    """What the tenant may not have is told at its place in the file, and nothing is written."""

    FILE = """
backends:
- name: edge
  hostname: app.example.com
  nexusAddresses: ["wss://nexus.example.com/connect"]
  portMappings:
    80: "0.0.0.0:8080"
    443:
      default: "app.internal:8443,localhost:8443"
      hosts:
        app.example.com: "10.0.0.1:80"
        API.example.com: "[::ffff:127.0.0.1]:80"
  udpRoutes: [{port: 80}]
  attestation:
    command: attestor
"""

    def setUp(self) -> None:
        self.tenant = Tenant.objects.create(slug="bounded")

    def imported(self, text: str = FILE, tenant: str | None = "bounded", **options: Any) -> ImportSummary:
        return import_config(parse_config(text.encode(), "nexus.yaml"), tenant=tenant, **options)

    def refusal(self, text: str = FILE, **options: Any) -> str:
        with self.assertRaises(ConfigFileError) as caught:
            self.imported(text, **options)
        self.assertFalse(Backend.objects.exists() or Hostname.objects.exists())
        return str(caught.exception)

    def test_each_is_told_at_its_place(self) -> None:
        for options in ({}, {"dry_run": True}):
            said = self.refusal(**options).splitlines()
            self.assertEqual(
                [line.split(": The")[0].split(": credential")[0] for line in said],
                [
                    "nexus.yaml:7:9: backends[0].portMappings.80.default",
                    "nexus.yaml:9:16: backends[0].portMappings.443.default",
                    'nexus.yaml:12:26: backends[0].portMappings.443.hosts."api.example.com"',
                    "nexus.yaml:15:5: backends[0].attestation.command",
                ],
                said,
            )
            self.assertIn("0.0.0.0 is the relay's own machine", said[0])
            self.assertIn("The target localhost:8443 is refused: 127.0.0.1 is", said[1])
            self.assertIn("have an operator allow the tenant 127.0.0.1", said[1])
            self.assertIn("no absolute path", said[3])

    def test_what_is_stored_already_stays(self) -> None:
        text = self.FILE.replace("command: attestor", "command: /bin/attestor")
        Tenant.objects.update(target_networks="0.0.0.0/0, ::/0")
        self.assertEqual(self.imported(text).count("create", "backend"), 1)
        Tenant.objects.update(target_networks="")
        with self.settings(CREDENTIAL_COMMANDS=[]):
            self.assertEqual(self.imported(text).changes, ())
            self.assertEqual(self.imported(text.replace("10.0.0.1", "10.0.0.2")).count("change", "backend"), 1)
            with self.assertRaisesRegex(ConfigFileError, "The target 0.0.0.0:8081 is refused"):
                self.imported(text.replace("0.0.0.0:8080", "0.0.0.0:8081"))
            with self.assertRaisesRegex(ConfigFileError, "CREDENTIAL_COMMANDS"):
                self.imported(text.replace("/bin/attestor", "/bin/other"))

    def test_the_tenant_that_an_import_makes_is_open(self) -> None:
        self.imported(self.FILE.replace("command: attestor", "command: /bin/attestor"), tenant=None)
        self.assertEqual(Tenant.objects.get(slug="default").target_networks, "0.0.0.0/0, ::/0")
        self.assertTrue(Tenant.objects.get(slug="default").target_unix)
