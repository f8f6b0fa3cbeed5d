"""The credential on its backend's page."""

from __future__ import annotations

from tests.tenants.admin.pages import AdminTestCase, errors_of


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
