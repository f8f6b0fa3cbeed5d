"""The credential on its backend's page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from tenants.models import Credential
from tests.support.registry import make_served_backend, make_token
from tests.tenants.admin.pages import AdminTestCase, errors_of, page


class CredentialPageTest(AdminTestCase):
    def test_another_kind_without_its_secret_is_one_error(self) -> None:
        self.client.force_login(self.editor)
        response = self.save(self.backend, **{"credential-0-kind": "presigned_token"})
        self.assertEqual(
            errors_of(response),
            {
                "credential-0-secret": [
                    "Enter the pre-signed token: what is stored is of the kind that it was before.",
                ]
            },
        )


class CredentialListTest(AdminTestCase):
    def ending(self, name: str, days: float | None) -> Credential:
        credential = make_served_backend(self.acme, name=name).credential
        exp = {} if days is None else {"exp": int((timezone.now() + timedelta(days=days)).timestamp())}
        credential.kind, credential.secret = "presigned_token", make_token(**exp)
        credential.save()
        return credential

    def listed(self, **query: Any) -> list[str]:
        response = self.client.get(page("changelist", Credential), query)
        return [row.backend.name for row in response.context["cl"].result_list]

    def test_what_ends_when(self) -> None:
        for name, days in (("a-ended", -1), ("b-today", 0.5), ("c-week", 5), ("d-month", 25), ("e-year", 365)):
            self.ending(name, days)
        self.ending("f-never", None)
        self.client.force_login(self.editor)
        for ends, names in (
            ("ended", ["a-ended"]),
            ("1", ["b-today"]),
            ("7", ["b-today", "c-week"]),
            ("30", ["b-today", "c-week", "d-month"]),
            ("never", ["edge", "f-never"]),
            ("nonsense", ["a-ended", "b-today", "c-week", "d-month", "e-year", "edge", "f-never"]),
        ):
            with self.subTest(ends):
                self.assertEqual(self.listed(ends=ends), names)
        self.assertEqual(self.listed(q="week"), ["c-week"])

    def test_a_row_leads_to_the_backend_and_changes_nothing(self) -> None:
        for user in (self.operator, self.owner, self.viewer):
            self.client.force_login(user)
            for row in (self.backend.credential,):
                response = self.client.get(page("change", row))
                self.assertRedirects(response, page("change", self.backend))
            self.assertEqual(self.client.get(page("add", Credential)).status_code, 403)
            self.assertEqual(self.client.post(page("change", self.backend.credential), {"kind": "x"}).status_code, 302)
            self.assertEqual(Credential.objects.get(pk=self.backend.credential.pk).kind, "hmac_secret")
        foreign = self.client.get(page("change", self.foreign.credential))
        absent = self.client.get(page("change", Credential(pk=987654)))
        self.assertEqual((foreign.status_code, foreign.headers["Location"]), (302, absent.headers["Location"]))
