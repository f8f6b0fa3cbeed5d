"""Files as people write them, into the registry and out again (tests/data/vectors/config_files.json)."""

from __future__ import annotations

from django.test import TestCase

from relay.configfile import ConfigFileError, parse_config
from tenants.models import Hostname, HostRoute, NexusNode
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import import_config
from tests.relay.configfile.test_vectors import ACCEPTED_HERE, REFUSED_HERE, VECTORS
from tests.support.registry import make_tenant

REFUSED_BY_THE_REGISTRY = {
    "cmd_path_lookup": "which program that is depends on the machine: the setting CREDENTIAL_COMMANDS has whole paths",
    "cmd_relative": "likewise",
}
"""Files that a relay takes with ``--config`` and an import does not (docs/protocol.md, "Configuration file")."""


class VectorTests(TestCase):
    def test_what_the_reader_takes_the_registry_holds(self) -> None:
        for case in VECTORS["cases"]:
            with self.subTest(case["name"]):
                tenant = make_tenant()
                try:
                    document = parse_config(case["file"].encode(), "config.yaml")
                    import_config(document, tenant=tenant.slug)
                    taken = True
                except ConfigFileError:
                    taken = False
                accepted = case["reference"] == "accepts" or case["name"] in ACCEPTED_HERE
                refused = case["name"] in REFUSED_HERE.keys() | REFUSED_BY_THE_REGISTRY.keys()
                self.assertEqual(taken, accepted and not refused)
                if not taken:
                    continue
                self.assertEqual(import_config(document, tenant=tenant.slug).changes, (), "a second run")
                self.assertEqual(export_config(tenant.slug, secrets=True).document.backends, document.backends)
                for model in (Hostname, HostRoute, NexusNode):
                    for row in model.objects.all():
                        row.full_clean()
                tenant.delete()
