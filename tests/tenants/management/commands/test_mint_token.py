"""Tests of the command mint_token as an operator, or a client, runs it."""

from __future__ import annotations

import io
import json
from unittest import mock

from django.core.management import CommandError, call_command

from tenants.models import Credential
from tests.tenants.services.tokens.test_issue import ENVIRONMENT, IssueCase


class MintTokenTests(IssueCase):
    def command(self, *arguments: str) -> str:
        out = io.StringIO()
        call_command("mint_token", *arguments, stdout=out)
        return out.getvalue().strip()

    def test_command(self) -> None:
        self.assertEqual(self.read(self.command("acme/edge", "--ttl", "12h"))["sub"], "acme/edge")
        with mock.patch.dict("os.environ", ENVIRONMENT):
            answer = json.loads(self.command("acme/edge", "--attest"))
        self.assertEqual(self.read(answer["token"])["session_nonce"], "n" * 43)
        self.assertRegex(answer["expiry"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        with self.assertRaisesMessage(CommandError, "(--install-now)"):
            self.command("acme/edge", "--install")
        said = self.command("acme/edge", "--install-now")
        self.assertIn("a token for acme/edge is in place", said)
        stored = Credential.objects.get(backend=self.backend)
        self.assertNotIn(stored.secret, said)
        said = self.command("acme/edge", "--install")
        self.assertIn("a token for acme/edge is beside the stored one", said)
        after = Credential.objects.get(backend=self.backend)
        self.assertEqual(after.secret, stored.secret)
        self.assertNotIn(after.next_secret, (None, stored.secret))
        for arguments in (["acme/none"], ["nobody/edge"], ["edge"]):
            with self.assertRaisesMessage(CommandError, "write TENANT/BACKEND"):
                self.command(*arguments)
        with self.assertRaisesMessage(CommandError, "is no time"):
            self.command("acme/edge", "--ttl", "soon")
