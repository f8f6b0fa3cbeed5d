"""Tests of tenants.services.config_import.checks: targets and commands that the tenant may not have."""

from __future__ import annotations

from typing import Any

from django.test import TestCase

from relay.configfile import (
    ConfigFileError,
    parse_config,
)
from tenants.models import (
    Backend,
    Hostname,
    Tenant,
)
from tenants.services.config_import.importer import ImportSummary, import_config


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
            self.assertRegex(
                said[1], r'Operators allow it in the admin, under "Where targets may be" of the tenant \S+\.'
            )
            self.assertIn("not an absolute path", said[3])

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
