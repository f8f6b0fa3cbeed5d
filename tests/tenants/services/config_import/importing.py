"""Backends as a file may hold them, and imports of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from django.test import TestCase

from relay.config import HmacSecret
from relay.configfile import (
    BackendDocument,
    ConfigDocument,
    PortMappingDocument,
)
from tenants.models import (
    Backend,
)
from tenants.services.config_import.backend_states import load
from tenants.services.config_import.exporter import export_config
from tenants.services.config_import.importer import ImportSummary, import_config

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


class ChangeTestCase(TestCase):
    """Two backends, of which one is changed."""

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
