"""Tests of importing configuration documents: the registry holds what files say, and says it again."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import DatabaseError
from django.test import TestCase
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.django import TestCase as HypothesisTestCase

from relay.configfile import (
    ConfigDocument,
    ConfigFileError,
    dump,
    parse_config,
    read_config_file,
)
from tenants.changes import generations
from tenants.models import (
    Backend,
    Change,
    Credential,
    Hostname,
    HostRoute,
    NexusNode,
    PortMapping,
    Tenant,
)
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import import_config
from tests.relay.configfile.documents import documents
from tests.support.registry import make_tenant
from tests.tenants.services.config_import.importing import CONFIGS, ChangeTestCase, backend, run


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


class ChangeTests(ChangeTestCase):
    def test_what_no_file_says_stays(self) -> None:
        self.backend.enabled, self.backend.site = False, "here"
        self.backend.save()
        NexusNode.objects.update(name="ours", enabled=False)
        self.assertEqual(run(backend(weight=2), backend("other")).count("change", "backend"), 1)
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.enabled, self.backend.site, self.backend.weight), (False, "here", 2))
        self.assertEqual(NexusNode.objects.get().name, "ours")


class AllOrNothingTests(TestCase):
    def rows(self) -> list[Any]:
        models = (Tenant, Backend, Hostname, NexusNode, PortMapping, HostRoute, Credential, Change)
        return [list(model._default_manager.order_by("pk").values_list()) for model in models]

    def test_a_failure_at_the_last_write_undoes_all(self) -> None:
        before = self.rows()
        with mock.patch.object(Credential, "normalise", side_effect=DatabaseError("row of secrets")):
            with self.assertRaises(ConfigFileError) as raised:
                run(backend())
        self.assertNotIn("secrets", str(raised.exception))
        self.assertEqual(self.rows(), before)
