"""Tests of tenants.rules.commands."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.test import TestCase, override_settings

from relay.config import TokenCommand
from relay.errors import InvalidValue
from tenants.bridge.snapshot import UnreadableBackend, load_all
from tenants.models import Credential, CredentialKind
from tenants.rules.commands import check_command
from tenants.services.diagnostics import backend_diagnostics
from tests.support.registry import make_backend, make_served_backend

LISTED = "/usr/local/bin/nexus-attestor"


class CommandTests(TestCase):
    def credential(self, command: str = LISTED) -> Credential:
        return Credential(backend=make_backend(), kind=CredentialKind.COMMAND, command=command)

    def test_any_absolute_path_while_developing(self) -> None:
        with self.settings(CREDENTIAL_COMMANDS=None):
            check_command("/bin/true")
            for command in ("attestor", "./attestor", "../bin/true", " /bin/true"):
                with self.assertRaisesRegex(InvalidValue, "not an absolute path"):
                    check_command(command)

    def test_else_those_that_are_listed_to_the_letter(self) -> None:
        with self.settings(CREDENTIAL_COMMANDS=[LISTED]):
            check_command(LISTED)
            for command in (
                "/bin/sh",
                f"{LISTED}/",
                f"{LISTED} ",
                "/usr/local/bin/../bin/nexus-attestor",
                f"{LISTED}x",
            ):
                with self.assertRaisesRegex(InvalidValue, "setting CREDENTIAL_COMMANDS"):
                    check_command(command)
        with override_settings():
            from django.conf import settings

            del settings.CREDENTIAL_COMMANDS
            with self.assertRaises(InvalidValue):
                check_command(LISTED)

    def test_every_way_to_write(self) -> None:
        with self.settings(CREDENTIAL_COMMANDS=[LISTED]):
            for write in (
                lambda: self.credential("/bin/sh").full_clean(),
                lambda: self.credential("/bin/sh").save(),
                lambda: Credential.objects.bulk_create([self.credential("/bin/sh")]),
            ):
                with self.assertRaises(ValidationError) as caught:
                    write()
                self.assertEqual(list(caught.exception.message_dict), ["command"])
            stored = self.credential()
            stored.save()
            with self.assertRaises(ValidationError):
                Credential.objects.update(command="/bin/sh")
            stored.command = "/bin/sh"
            with self.assertRaises(ValidationError):
                Credential.objects.bulk_update([stored], ["command"])
            self.assertEqual(Credential.objects.get().command, LISTED)

    def test_a_shorter_list_keeps_other_edits_but_serves_it_no_more(self) -> None:
        backend, fine = make_served_backend(), make_served_backend()
        credential = backend.credential
        credential.kind, credential.command, credential.args = CredentialKind.COMMAND, LISTED, ["--key=s3cret"]
        credential.save()
        key = f"backend:{backend.pk}"
        self.assertIsInstance(load_all().backends[key].credential, TokenCommand)
        with self.settings(CREDENTIAL_COMMANDS=["/bin/other"]):
            credential.token_ttl = 44
            credential.full_clean()
            credential.save()
            problems: list[UnreadableBackend] = []
            served = load_all(report=problems.append).backends
            [warning] = [text for text in backend_diagnostics(backend) if "command" in text]
        self.assertEqual(set(served), {f"backend:{fine.pk}"})
        self.assertIn("setting CREDENTIAL_COMMANDS", warning)
        self.assertNotIn(LISTED, warning)
        [problem] = problems
        self.assertRegex(problem.message, f"'{LISTED}' is not among those that may run: add it to the setting")
        self.assertNotIn("s3cret", problem.message)
