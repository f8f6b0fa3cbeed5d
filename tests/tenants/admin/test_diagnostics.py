"""Tests of tenants.admin.diagnostics: after a save, members who cannot log in are named."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from tenants.models import Membership, Role
from tests.tenants.admin.pages import AdminTestCase, fields_of, page

TOLD = "The user outsider has no staff status, so cannot log in here"


class MembershipPageTest(AdminTestCase):
    outsider: Any

    @classmethod
    def setUpTestData(cls) -> None:
        super().setUpTestData()
        cls.outsider = type(cls.editor).objects.create(username="outsider")

    def add(self, user: Any) -> Any:
        data = {"tenant": self.acme.pk, "user": user, "role": Role.VIEWER}
        return self.client.post(reverse("admin:tenants_membership_add"), data, follow=True)

    def test_a_user_without_staff_status(self) -> None:
        self.client.force_login(self.operator)
        response = self.add(self.outsider.pk)
        self.assertTrue(Membership.objects.filter(tenant=self.acme, user=self.outsider).exists())
        self.assertContains(response, TOLD)
        self.assertContains(response, "an operator can change that on the user")

    def test_a_user_with_staff_status_is_no_matter(self) -> None:
        self.client.force_login(self.operator)
        self.assertNotContains(self.add(self.nobody.pk), "look at this")

    def test_the_pages_of_the_tenant_and_of_the_user_tell_it_too(self) -> None:
        self.client.force_login(self.operator)
        self.add(self.outsider.pk)
        for row in (self.acme, self.outsider):
            with self.subTest(row=row):
                address = page("change", row)
                response = self.client.post(address, fields_of(self.client.get(address)), follow=True)
                self.assertContains(response, TOLD)
