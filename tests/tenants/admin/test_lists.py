"""Search, filters, columns and actions of the lists."""

from __future__ import annotations

from typing import Any

from tenants.changes import generations
from tenants.models import Backend, CredentialKind, Hostname
from tests.support.registry import make_backend, make_token
from tests.tenants.admin.pages import AdminTestCase, page


class ListTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.operator)
        self.bare = make_backend(self.acme, name="bare", enabled=False)
        self.spare = Hostname.objects.create(tenant=self.acme, name="spare.example.com")

    def names(self, model: Any, query: str) -> list[str]:
        response = self.client.get(page("changelist", model) + query)
        self.assertEqual(response.status_code, 200)
        return sorted(row.name for row in response.context["cl"].result_list)

    def test_search(self) -> None:
        cases = {
            "?q=edge": ["edge"],
            "?q=app.example.com": ["edge"],
            "?q=localhost:9443": ["edge", "secluded-backend"],
            "?q=acme": ["bare", "edge"],
            "?q=nothing-of-this-name": [],
        }
        for query, expected in cases.items():
            with self.subTest(query):
                self.assertEqual(self.names(Backend, query), expected)

    def test_filters(self) -> None:
        credential = self.backend.credential
        credential.kind, credential.secret = CredentialKind.PRESIGNED_TOKEN, make_token(exp=1_600_000_000)
        credential.save()
        cases = {
            f"?tenant={self.acme.pk}": ["bare", "edge"],
            "?tenant=not-a-key": ["bare", "edge", "secluded-backend"],
            "?enabled__exact=0": ["bare"],
            f"?node={self.backend.nodes.get().pk}": ["edge"],
            "?credential=none": ["bare"],
            "?credential=expired": ["edge"],
            "?credential=expiring": [],
            "?credential=hmac_secret": ["secluded-backend"],
        }
        for query, expected in cases.items():
            with self.subTest(query):
                self.assertEqual(self.names(Backend, query), expected)
        self.assertEqual(self.names(Hostname, "?served=no"), ["spare.example.com"])
        self.assertEqual(self.names(Hostname, f"?served=yes&tenant={self.acme.pk}"), ["app.example.com"])

    def test_columns(self) -> None:
        response = self.client.get(page("changelist", Backend))
        self.assertContains(response, "It has no credential")
        self.assertContains(response, "localhost:8443 +1")
        self.assertContains(response, "acme")

    def test_what_is_filtered_can_be_deleted(self) -> None:
        self.client.force_login(self.editor)
        before = generations.current()
        chosen = {"_selected_action": [self.spare.pk], "action": "delete_selected", "post": "yes"}
        for query in ("?served=no", "?q=spare"):
            self.client.post(page("changelist", Hostname) + query, chosen)
        self.assertFalse(Hostname.objects.filter(pk=self.spare.pk).exists())
        self.assertTrue(Hostname.objects.filter(name="app.example.com").exists())
        self.assertEqual(generations.current(), before + 1)


class ConstraintPlaceTest(AdminTestCase):
    def test_every_constraint_has_a_field_to_be_shown_at(self) -> None:
        from django.apps import apps

        from tenants.changes.base import RegistryModel

        models = [model for model in apps.get_app_config("tenants").get_models() if issubclass(model, RegistryModel)]
        found = [(model, constraint) for model in models for constraint in model._meta.constraints]
        self.assertGreater(len(found), 50)
        for model, constraint in found:
            with self.subTest(constraint.name):
                self.assertIn(constraint.field, {field.name for field in model._meta.concrete_fields})
