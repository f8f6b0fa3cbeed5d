"""Secrets go in and never come out."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.test import Client, override_settings
from django.urls import reverse

from tenants.models import AuditEntry, Credential, CredentialKind
from tests.support.registry import make_served_backend, make_token
from tests.tenants.admin.pages import SECRET, AdminTestCase, errors_of, fields_of, page

NEW = "another-secret-of-forty-characters-or-so"
ENTERED = "entered-and-refused-secret"


class SecretTest(AdminTestCase):
    def assertSilent(self, response: Any, *secrets: str) -> None:
        text = response.content.decode(errors="replace")
        self.assertEqual([secret for secret in (SECRET, NEW, ENTERED, *secrets) if secret in text], [])

    def test_a_next_token_is_planned_shown_without_itself_and_dropped(self) -> None:
        token = make_token(hostnames=["next.example.com"], exp=1_900_000_000)
        self.client.force_login(self.editor)
        response = self.save(self.backend, **{"credential-0-next_secret": NEW})
        self.assertIn("credential-0-next_at", errors_of(response))
        self.assertNotContains(response, NEW)
        at = {"credential-0-next_at_0": "2029-01-01", "credential-0-next_at_1": "12:00:00"}
        self.assertSaved(self.save(self.backend, **{"credential-0-next_secret": NEW}, **at))
        self.assertEqual(self.stored().next_secret, NEW)
        shown = self.client.get(page("change", self.backend))
        self.assertContains(shown, "serves from 2029-01-01 12:00 UTC, put here by editor")
        self.assertNotContains(shown, NEW)
        self.assertSaved(self.save(self.backend, name="renamed"))
        self.assertEqual(self.stored().next_secret, NEW)
        self.assertSaved(self.save(self.backend, **{"credential-0-drop_next": "on"}))
        self.assertEqual((self.stored().next_secret, self.stored().next_at), (None, None))
        both = {"credential-0-kind": "presigned_token", "credential-0-secret": token, "credential-0-next_secret": token}
        self.assertSaved(self.save(self.backend, **both, **at))
        self.client.force_login(self.viewer)
        shown = self.client.get(page("change", self.backend))
        self.assertContains(shown, "next.example.com")
        self.assertNotContains(shown, token)

    def stored(self) -> Credential:
        return Credential.objects.get(backend=self.backend)

    def test_no_page_holds_a_secret(self) -> None:
        other = make_served_backend(self.acme, "cmd.example.com", name="by-command")
        other.credential.delete()
        Credential.objects.create(
            backend=other, kind=CredentialKind.COMMAND, command="/bin/attest", env={"NAME": "environment-secret-1"}
        )
        for user in (self.operator, self.owner, self.editor, self.viewer):
            self.client.force_login(user)
            addresses = [reverse("admin:index")]
            addresses += [page(action, model) for model in admin.site._registry for action in ("changelist", "add")]
            for row in (self.backend, other):
                addresses += [page(action, row) for action in ("change", "delete", "history")]
            for address in addresses:
                with self.subTest(user=user.username, address=address):
                    self.assertSilent(self.client.get(address), "environment-secret-1")

    def test_the_inputs_are_passwords_without_values(self) -> None:
        self.client.force_login(self.operator)
        response = self.client.get(page("change", self.backend))
        for name in ("secret", "env"):
            field = response.context["inline_admin_formsets"][-1].formset.forms[0][name]
            self.assertIn('type="password"', str(field))
            self.assertNotIn("value=", str(field))
        self.assertContains(response, f"fingerprint {self.stored().fingerprint}")

    def test_blank_keeps_the_secret(self) -> None:
        self.client.force_login(self.editor)
        before = self.stored()
        self.assertSaved(self.save(self.backend, **{"credential-0-token_ttl": 77}))
        after = self.stored()
        self.assertEqual((after.secret, after.fingerprint, after.token_ttl), (SECRET, before.fingerprint, 77))

    def test_a_new_secret_replaces_it_and_the_log_says_only_that(self) -> None:
        self.client.force_login(self.editor)
        response = self.client.post(
            page("change", self.backend), self.open(self.backend) | {"credential-0-secret": NEW}, follow=True
        )
        self.assertSilent(response)
        self.assertEqual(self.stored().secret, NEW)
        entry = AuditEntry.objects.filter(model="tenants.credential").latest("pk")
        self.assertEqual(entry.changes["secret"][1], {"secret": self.stored().fingerprint})
        self.assertNotIn(NEW, str(list(AuditEntry.objects.values())))

    def test_an_environment_is_written_and_not_shown(self) -> None:
        self.client.force_login(self.operator)
        changes = {
            "credential-0-kind": "command",
            "credential-0-command": "/bin/attest",
            "credential-0-args": "[]",
            "credential-0-env": f'{{"NAME": "{NEW}"}}',
        }
        response = self.client.post(page("change", self.backend), self.open(self.backend) | changes, follow=True)
        self.assertSilent(response)
        self.assertEqual(self.stored().env, {"NAME": NEW})
        self.assertSaved(self.save(self.backend, **{"credential-0-timeout": 9}))
        self.assertEqual((self.stored().env, self.stored().timeout), ({"NAME": NEW}, 9))
        response = self.save(self.backend, **{"credential-0-env": f'{{"NAME": {ENTERED}'})
        self.assertSilent(response)
        self.assertIn("no JSON", errors_of(response)["credential-0-env"][0])

    def test_a_page_shown_again_after_an_error_does_not_repeat_it(self) -> None:
        self.client.force_login(self.editor)
        for changes in (
            {"name": "", "credential-0-secret": ENTERED},
            {"credential-0-kind": "presigned_token", "credential-0-secret": ENTERED},
            {"credential-0-kind": "presigned_token", "credential-0-secret": f"{ENTERED}.{ENTERED}.{ENTERED}"},
            {"credential-0-kind": "no such kind", "credential-0-secret": ENTERED},
            {"credential-0-token_ttl": 0, "credential-0-secret": ENTERED},
        ):
            with self.subTest(changes):
                response = self.save(self.backend, **changes)
                self.assertEqual(response.status_code, 200)
                self.assertSilent(response)
        self.assertEqual(self.stored().secret, SECRET)

    def test_another_kind_needs_another_secret(self) -> None:
        self.client.force_login(self.editor)
        response = self.save(self.backend, **{"credential-0-kind": "presigned_token"})
        self.assertIn("Enter the pre-signed token", errors_of(response)["credential-0-secret"][0])

    def test_a_token_is_shown_by_what_it_claims(self) -> None:
        self.client.force_login(self.editor)
        token = make_token(hostnames=["app.example.com"], exp=4_000_000_000)
        changes = {"credential-0-kind": "presigned_token", "credential-0-secret": token}
        response = self.client.post(page("change", self.backend), self.open(self.backend) | changes, follow=True)
        self.assertSilent(response, token)
        response = self.client.get(page("change", self.backend))
        self.assertSilent(response, token)
        self.assertContains(response, "2096-10-02 07:06 UTC")

    def test_only_operators_choose_what_reaches_into_the_relays_machine(self) -> None:
        self.client.force_login(self.owner)
        for kind in (CredentialKind.COMMAND, CredentialKind.HMAC_SECRET_FILE):
            with self.subTest(kind):
                changes = {
                    "credential-0-kind": kind.value,
                    "credential-0-command": "/bin/sh",
                    "credential-0-secret_file": "/etc/shadow",
                }
                response = self.save(self.backend, **changes)
                self.assertIn("credential-0-kind", errors_of(response))
        self.assertEqual(self.stored().kind, CredentialKind.HMAC_SECRET)

    def test_what_an_operator_set_up_stays_when_an_editor_saves(self) -> None:
        credential: Any = self.stored()
        credential.kind, credential.command, credential.env = CredentialKind.COMMAND, "/bin/attest", {"A": "b"}
        credential.save()
        self.client.force_login(self.editor)
        changes = {"name": "renamed", "credential-0-command": "/bin/sh", "credential-0-token_ttl": 44}
        self.assertSaved(self.save(self.backend, **changes))
        stored = self.stored()
        self.assertEqual((stored.command, stored.env, stored.token_ttl), ("/bin/attest", {"A": "b"}, 44))
        self.assertNotContains(self.client.get(page("change", self.backend)), "/bin/attest")

    def test_a_secret_whose_key_is_lost_can_be_entered_anew(self) -> None:
        key = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDE="
        with override_settings(FIELD_ENCRYPTION_KEYS=[key]):
            self.client.force_login(self.editor)
            self.assertSaved(self.save(self.backend, weight=3))
            response = self.save(self.backend, **{"credential-0-token_ttl": 44})
            self.assertIn("cannot be decrypted", str(errors_of(response)))
            self.assertSaved(self.save(self.backend, **{"credential-0-secret": NEW}))
            self.assertEqual(self.stored().secret, NEW)

    def test_error_pages_hide_what_was_posted_with_debug_on_too(self) -> None:
        client = Client(raise_request_exception=False)
        client.force_login(self.editor)
        data = fields_of(client.get(page("change", self.backend))) | {"credential-0-secret": ENTERED}
        with override_settings(DEBUG=True, FIELD_ENCRYPTION_KEYS=[]):
            response = client.post(page("change", self.backend), data)
        self.assertEqual(response.status_code, 500)
        self.assertIn("Traceback", response.content.decode())
        self.assertSilent(response)
