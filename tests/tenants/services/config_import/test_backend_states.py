"""Every simple field of a backend, from a file through the registry to a relay and back to a file."""

from __future__ import annotations

from dataclasses import replace

from django.test import TestCase

from relay.config import HmacSecret, Limits, Removal, RemovalMode
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.configfile import (
    ConfigDocument,
    ConfigFileError,
    PortMappingDocument,
    dump,
    parse_config,
)
from relay.configfile.fields import FIELDS, columns_of
from tenants.bridge.snapshot import load_all
from tenants.models import Backend, Credential, Tenant
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import import_config
from tests.relay.configfile.test_fields import BARE, all_changed, set_in, value_of
from tests.tenants.services.config_import.importing import backend, lines, run


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
