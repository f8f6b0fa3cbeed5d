"""Every simple field of a backend, from a file through the registry to a relay and back to a file."""

from __future__ import annotations

from dataclasses import replace

from django.test import TestCase

from relay.config import HmacSecret
from relay.configfile import ConfigDocument, dump, parse_config
from relay.configfile.fields import FIELDS, columns_of
from tenants.bridge.snapshot import load_all
from tenants.models import Backend, Credential, Tenant
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import import_config
from tests.relay.configfile.test_fields import BARE, all_changed, set_in, value_of


class FieldTableTests(TestCase):
    def test_every_field_arrives_and_comes_back(self) -> None:
        bare = replace(parse_config(BARE, "bare.yaml").backends[0], credential=HmacSecret("a-secret-of-some-length"))
        document = ConfigDocument((set_in(bare, all_changed()),))
        text = dump(document, include_secrets=True)
        import_config(parse_config(text.encode(), "all.yaml"))
        (config,) = load_all().backends.values()
        for field in FIELDS:
            with self.subTest(field.key):
                self.assertEqual(value_of(config, field), all_changed()[field.attribute])
        exported = export_config(secrets=True).document
        self.assertEqual(exported, document)
        self.assertEqual(dump(exported, include_secrets=True), text)

    def test_a_second_import_changes_nothing_and_each_field_alone_does(self) -> None:
        bare = parse_config(BARE, "bare.yaml")
        import_config(bare)
        self.assertEqual(import_config(bare).changes, ())
        for field in FIELDS:
            values = {field.attribute: all_changed()[field.attribute]}
            if field.key == "attestation.allowedOutboundPorts":
                values["claims.outbound_allowed"] = True
            document = ConfigDocument((set_in(bare.backends[0], values),))
            with self.subTest(field.key):
                (change,) = import_config(document, dry_run=True).changes
                self.assertIn(field.column.replace("_", " "), change.details[-1])

    def test_columns_and_configuration_have_the_same_defaults(self) -> None:
        backend, credential = Backend(tenant=Tenant(slug="a")), Credential()
        for field in FIELDS:
            with self.subTest(field.column):
                row = backend if field.model == "backend" else credential
                self.assertEqual(field.kind.from_column(getattr(row, field.column)), field.default)
        names = {each.name for each in Backend._meta.get_fields()}
        self.assertLessEqual(set(columns_of("backend")), names)
