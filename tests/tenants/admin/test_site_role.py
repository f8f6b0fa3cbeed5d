"""Tests of the role on a user's page that is for all tenants."""

from __future__ import annotations

from django.contrib.auth import get_user_model

from tenants.changes.visibility import sight_of
from tests.tenants.admin.pages import AdminTestCase, fields_of, page


class SiteRoleTest(AdminTestCase):
    def test_operators_make_auditors(self) -> None:
        self.client.force_login(self.operator)
        address = page("change", self.nobody)
        data = fields_of(self.client.get(address))
        data |= {"site_role-TOTAL_FORMS": 1, "site_role-0-role": "auditor"}
        self.assertSaved(self.client.post(address, data))
        self.assertTrue(sight_of(get_user_model().objects.get(pk=self.nobody.pk)).auditor)
