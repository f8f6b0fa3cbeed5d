"""Tests of tenants.services.config_import.rule_warnings: only what can be proved, each at its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.test import SimpleTestCase

from relay.configfile import read_config_file
from tenants.services.config_import.rule_warnings import rule_warnings
from tests.support.registry import make_token

HEAD = """backends:
  - name: edge
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: "0123456789abcdef0123456789abcdef"}
"""


class RuleWarningTests(SimpleTestCase):
    def warnings(self, text: str, head: str = HEAD) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "nexus.yaml"
            path.write_text(head + text)
            return [str(each).removeprefix(f"{path}:") for each in rule_warnings(read_config_file(path))]

    def test_nothing_to_say(self) -> None:
        for text in (
            '    hostnames: [app.example.com]\n    portMappings: {443: "h:1"}\n',
            # an exact name under a wildcard, whatever its target
            "    hostnames: ['*.example.com']\n"
            '    portMappings: {443: {hosts: {"*.example.com": "h:1", a.example.com: "h:1"}}}\n',
            # a wildcard route for one of the claimed names
            "    hostnames: [a.example.com, b.example.com]\n"
            '    portMappings: {443: {hosts: {"*.example.com": "h:1", a.example.com: "h:2"}}}\n',
            # the default serves what has no route
            "    hostnames: [a.example.com, b.example.com]\n"
            '    portMappings: {443: {default: "h:1", hosts: {a.example.com: "h:2"}}}\n',
            # users of a claimed port have no hostname
            "    hostnames: [a.example.com]\n    tcpPorts: [25]\n"
            '    portMappings: {25: {default: "h:1", hosts: {a.example.com: "h:2"}}}\n',
        ):
            with self.subTest(text):
                self.assertEqual(self.warnings(text), [])

    def test_routes_that_nobody_comes_to(self) -> None:
        found = self.warnings(
            "    hostnames: [a.example.com]\n"
            '    portMappings: {443: {default: "h:1", hosts: {x.example.com: "h:2", "*.other.com": "h:3", \n'
            '      "*.example.com": "h:4", a.example.com: "h:5"}}}\n'
        )
        self.assertEqual(len(found), 4, found)
        text = "\n".join(found)
        self.assertIn("x.example.com, or a wildcard for it", text)
        self.assertIn("no hostname of the backend is under *.other.com", text)
        self.assertIn("under *.example.com has a host route of its own", text)
        self.assertIn("default is never used", text)
        self.assertTrue(all(each[0].isdigit() for each in found), "each has its line")

    def test_a_default_that_is_never_used(self) -> None:
        (found,) = self.warnings(
            "    hostnames: ['*.example.com', BÜCHER.example]\n"
            '    portMappings: {443: {default: "h:1", hosts: {"*.example.com": "h:2", bücher.example: "h:3"}}}\n'
        )
        self.assertIn("the default is never used", found)

    def test_a_port_that_nobody_comes_to(self) -> None:
        (found,) = self.warnings('    tcpPorts: [25]\n    portMappings: {25: "h:1", 26: "h:1"}\n')
        self.assertIn("nothing comes to port 26", found)

    def test_what_a_token_says_rules(self) -> None:
        token = make_token(hostnames=["a.example.com"], exp=9_999_999_999)
        head = HEAD.replace('attestation: {hmacSecret: "0123456789abcdef0123456789abcdef"}', f"authToken: {token}")
        (found,) = self.warnings(
            "    hostnames: [b.example.com]\n"
            '    portMappings: {443: {hosts: {a.example.com: "h:1", b.example.com: "h:2"}}}\n',
            head,
        )
        self.assertIn("no hostname of the backend is b.example.com", found)
