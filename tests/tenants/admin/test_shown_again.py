"""A page shown again tells what the database holds, and asks for what it cannot show again."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from tenants.admin.shown_again import AGAIN
from tenants.models import Credential, CredentialKind, TenantKey
from tenants.services.tokens.tenant_keys import rotate
from tests.support.registry import make_backend, make_token
from tests.tenants.admin.pages import SECRET, AdminTestCase, errors_of, fields_of, page

NEW = "another-secret-of-forty-characters-or-so"


class ShownAgainTests(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.operator)

    def assertAsksAgain(self, response: Any, field: str) -> None:
        self.assertEqual(response.status_code, 200)
        self.assertEqual(errors_of(response).get(field, [""])[-1], AGAIN)
        self.assertNotContains(response, NEW)

    def test_a_rotation_beside_another_mistake_is_not_lost_silently(self) -> None:
        stored = Credential.objects.get(backend=self.backend).fingerprint
        response = self.save(self.backend, **{"name": "", "credential-0-secret": NEW})
        self.assertAsksAgain(response, "credential-0-secret")
        self.assertContains(response, f"fingerprint {stored}")
        self.assertContains(response, "enter it again")
        self.assertNotContains(response, "put here by operator")
        self.assertEqual(Credential.objects.get(backend=self.backend).secret, SECRET)

    def test_so_is_every_other_secret_of_the_page(self) -> None:
        token = make_token(hostnames=["new.example.com"], exp=1_900_000_000)
        entered = {"credential-0-kind": "presigned_token", "credential-0-secret": token, "weight": "no number"}
        response = self.save(self.backend, **entered)
        self.assertAsksAgain(response, "credential-0-secret")
        self.assertNotContains(response, "new.example.com")
        at = {"credential-0-next_at_0": "2029-01-01", "credential-0-next_at_1": "12:00:00"}
        response = self.save(self.backend, **{"name": "", "credential-0-next_secret": NEW}, **at)
        self.assertAsksAgain(response, "credential-0-next_secret")
        self.assertNotContains(response, "serves from 2029-01-01")
        command = {"credential-0-kind": "command", "credential-0-command": "/bin/attest", "credential-0-args": "[]"}
        response = self.save(self.backend, **{"name": "", "credential-0-env": f'{{"NAME": "{NEW}"}}'}, **command)
        self.assertAsksAgain(response, "credential-0-env")

    def test_a_first_secret_is_not_shown_as_stored(self) -> None:
        bare = make_backend(self.acme)
        response = self.save(bare, **{"name": "", "credential-0-kind": "hmac_secret", "credential-0-secret": NEW})
        self.assertAsksAgain(response, "credential-0-secret")
        self.assertNotContains(response, "fingerprint ")

    def test_the_page_of_a_new_backend_asks_again(self) -> None:
        address = reverse("admin:tenants_backend_add")
        entered = {"name": "", "credential-0-kind": CredentialKind.HMAC_SECRET.value, "credential-0-secret": NEW}
        response = self.client.post(address, fields_of(self.client.get(address)) | entered)
        self.assertAsksAgain(response, "credential-0-secret")

    def test_a_tenants_key(self) -> None:
        address = reverse("admin:tenants_tenantkey_add")
        entered = {"tenant": str(self.acme.pk), "secret": NEW, "overlap": "-1"}
        self.assertAsksAgain(self.client.post(address, fields_of(self.client.get(address)) | entered), "secret")
        self.assertFalse(TenantKey.objects.exists())
        key = rotate(self.acme)
        entered = {"revoke": "on", "revoked_because": "x" * 201}
        response = self.client.post(page("change", key), fields_of(self.client.get(page("change", key))) | entered)
        self.assertIn("revoked_because", errors_of(response))
        self.assertNotContains(response, ">revoked<")
        self.assertIn("revoke", fields_of(response))

    def test_what_is_not_changed_or_not_secret_is_shown_as_it_was_entered(self) -> None:
        response = self.save(self.backend, **{"name": "", "weight": "7", "credential-0-token_ttl": "44"})
        self.assertEqual(list(errors_of(response)), ["name"])
        self.assertEqual(fields_of(response)["weight"], "7")
        self.assertEqual(fields_of(response)["credential-0-token_ttl"], "44")
