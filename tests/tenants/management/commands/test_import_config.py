"""Tests of the command import_config as an operator runs it."""

from __future__ import annotations

import re
from unittest import mock

from django.core.management import CommandError

from tenants.changes.actor import acting
from tenants.models import Backend, Change, Tenant
from tests.support.registry import make_tenant
from tests.tenants.management.commands.running import CONFIGS, CommandTestCase


class ImportCommandTests(CommandTestCase):
    def test_first_and_second_run(self) -> None:
        out, err = self.run_command("import_config", CONFIGS / "attested.yaml")
        self.assertIn("create tenant default", out)
        self.assertIn("create backend edge-apps: 2 hostnames; 2 nodes;", out)
        self.assertIn("Backends of default: 3 created, 0 changed, 0 removed, 0 unchanged.", out)
        self.assertRegex(err, r"^warning: \S+attested.yaml:29:28: .*no user reaches this route\n$")
        out, _ = self.run_command("import_config", CONFIGS / "attested.yaml")
        self.assertEqual(out, "Nothing changed: all 3 backends of default are as the file says.\n")

    def test_no_secret_is_printed(self) -> None:
        for name in ("attested.yaml", "token.yaml"):
            out, err = self.run_command("import_config", CONFIGS / name)
            self.assertNotRegex(out + err, "not a real secret|eyJ|--backend|authorizer.example")

    def test_dry_run(self) -> None:
        out, _ = self.run_command("import_config", CONFIGS / "token.yaml", "--dry-run", "--no-probe")
        self.assertIn("2 to be created", out)
        self.assertIn("dry run", out)
        self.assertFalse(Tenant.objects.exists() or Change.objects.exists())

    def test_a_plan_is_imported_as_it_was_read_or_not_at_all(self) -> None:
        self.run_command("import_config", CONFIGS / "token.yaml")
        out, _ = self.run_command("import_config", CONFIGS / "attested.yaml", "--dry-run", "--no-probe")
        planned = re.search(r"add --planned-at (\d+)\.", out)
        assert planned is not None
        asked = ("import_config", CONFIGS / "attested.yaml", "--planned-at", planned[1])
        changed = Backend.objects.all()[0]
        with acting(name="ann"):
            changed.weight = 77
            changed.save()
        with self.assertRaisesMessage(CommandError, f"ann updated the backend {changed} (weight: 1 → 77)"):
            self.run_command(*asked)
        self.assertEqual(Backend.objects.get(pk=changed.pk).weight, 77)
        make_tenant().delete()  # another tenant's changes are none of this plan's
        out, _ = self.run_command("import_config", CONFIGS / "attested.yaml", "--dry-run", "--no-probe")
        planned = re.search(r"add --planned-at (\d+)\.", out)
        assert planned is not None
        self.run_command("import_config", CONFIGS / "attested.yaml", "--planned-at", planned[1])

    def test_a_disabled_tenant_is_told_of(self) -> None:
        tenant = make_tenant(enabled=False)
        for _ in range(2):
            _, err = self.run_command("import_config", CONFIGS / "attested.yaml", "--tenant", tenant.slug)
            self.assertIn(
                f"warning: the tenant {tenant.slug} is disabled: nothing is served until it is enabled in the admin\n",
                err,
            )

    def test_what_does_not_answer_is_told_of_and_fails_nothing(self) -> None:
        path = self.file(
            "backends:\n  - name: edge\n    nexusAddresses: ['wss://nexus.example.com/connect']\n    tcpPorts: [25]\n"
            "    attestation: {hmacSecret: '0123456789abcdef0123456789abcdef'}\n    portMappings: {25: '127.0.0.1:1'}\n"
        )
        make_tenant(slug="open", target_networks="127.0.0.0/8")
        asked = ("import_config", path, "--tenant", "open")
        _, err = self.run_command(*asked, "--dry-run")
        self.assertIn("nexus.yaml:6:24: backends[0].portMappings.25.default: the target 127.0.0.1:1 does", err)
        self.assertNotIn("does not answer", self.run_command(*asked, "--dry-run", "--no-probe")[1])
        self.assertNotIn("does not answer", self.run_command(*asked)[1])
        self.assertIn("does not answer", self.run_command(*asked, "--probe")[1])
        with mock.patch("tenants.bridge.probes.probe", side_effect=RuntimeError("odd")):
            _, err = self.run_command(*asked, "--probe")
        self.assertIn("could not be probed (RuntimeError)", err)

    def test_tenant_and_prune(self) -> None:
        tenant = make_tenant()
        self.run_command("import_config", CONFIGS / "attested.yaml", "--tenant", tenant.slug)
        out, _ = self.run_command("import_config", CONFIGS / "token.yaml", "--tenant", tenant.slug)
        self.assertIn("3 of the tenant's backends are not in the file and stay (--prune removes them).", out)
        out, _ = self.run_command("import_config", CONFIGS / "token.yaml", "--tenant", tenant.slug, "--prune")
        self.assertIn("remove backend edge-apps", out)
        self.assertEqual(Backend.objects.count(), 2)

    def test_an_unknown_tenant(self) -> None:
        with self.assertRaisesRegex(CommandError, "no tenant 'nobody'"):
            self.run_command("import_config", CONFIGS / "token.yaml", "--tenant", "nobody")

    def test_every_problem_is_printed_and_nothing_is_changed(self) -> None:
        path = self.file("backends:\n  - name: a\n    weight: yes\n    weight: 2\n    colour: red\n")
        with self.assertRaises(CommandError) as raised:
            self.run_command("import_config", path)
        lines = str(raised.exception).split("\n")
        self.assertEqual(lines[0], f"{len(lines) - 1} problems in {path}; the database is as it was:")
        self.assertTrue(all(line.startswith(f"{path}:") for line in lines[1:]))
        self.assertIn(f"{path}:4:5: backends[0].weight: the key stands twice (first in line 3): keep one", lines)
        self.assertEqual(raised.exception.returncode, 1)
        self.assertFalse(Tenant.objects.exists())

    def test_files_that_can_not_be_read(self) -> None:
        for text in ("", "\0", "- a", "a: &a [*a]"):
            with self.assertRaisesRegex(CommandError, "^1 problem in "):
                self.run_command("import_config", self.file(text))
        with self.assertRaisesRegex(CommandError, "does not exist"):
            self.run_command("import_config", self.folder / "none.yaml")

    def test_warnings_go_to_standard_error(self) -> None:
        text = (CONFIGS / "attested.yaml").read_text().replace('      53: "localhost:5353"\n', "")
        _, err = self.run_command("import_config", self.file(text))
        self.assertRegex(err, r"^warning: \S+:3:5: backends\[0\]\.tcpPorts: port 53 is claimed")

    def test_a_long_list_is_cut(self) -> None:
        one = (
            "  - name: edge-%d\n    hostname: edge-%d.example.com\n    nexusAddresses: [wss://nexus.example.com]\n"
            "    attestation: {hmacSecret: x}\n    portMappings: {443: 'a:1'}\n"
        )
        path = self.file("backends:\n" + "".join(one % (number, number) for number in range(250)))
        out, _ = self.run_command("import_config", path, "--dry-run", "--no-probe")
        self.assertIn("… and 52 more (--verbosity 2 lists all)", out)
        out, _ = self.run_command("import_config", path, "--dry-run", "--no-probe", "--verbosity", "2")
        self.assertIn("edge-249", out)
        self.assertEqual(self.run_command("import_config", path, "--verbosity", "0"), ("", ""))
