"""Tests of tenants.services.config_import.plan: what would change, and which hostnames the tenant cannot have."""

from __future__ import annotations

from typing import Any

from django.test import TestCase

from relay.configfile import (
    ConfigDocument,
    ConfigFileError,
    dump,
    parse_config,
)
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
from tenants.services.config_import.importer import import_config
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.services.config_import.importing import CONFIGS, backend, lines, run


class PlanTests(TestCase):
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

    def test_the_query_of_a_nodes_address_is_not_shown(self) -> None:
        for query in ("?key=hunter2", "?key=hunter3"):
            summary = run(backend(nexus_addresses=(f"wss://nexus.example.com/connect{query}",)))
            self.assertGreater(len(summary.changes), 1)
            self.assertIn("wss://nexus.example.com/connect", "".join(lines(summary)))
            self.assertNotIn("hunter", "".join(lines(summary)))

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
