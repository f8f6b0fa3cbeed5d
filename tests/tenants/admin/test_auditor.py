"""An auditor sees everything and changes nothing, by no page, no action and no forged form."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.urls import reverse

from tenants.changes.visibility import kept, sight_of
from tenants.models import Backend, Hostname, Membership, PortMapping, Role, SiteRole
from tenants.services.access import permissions
from tests.tenants.admin.pages import SECRET, AdminTestCase, fields_of, make_user, page


class AuditorTest(AdminTestCase):
    auditor: Any

    @classmethod
    def setUpTestData(cls) -> None:
        super().setUpTestData()
        cls.auditor = make_user("auditor", acme=Role.OWNER)  # a membership beside it gives nothing
        SiteRole.objects.create(user=cls.auditor, role="auditor")
        cls.auditor.set_password("a password that nobody guesses")
        cls.auditor.save()

    def setUp(self) -> None:
        self.client.force_login(self.auditor)

    def rows(self) -> list[Any]:
        mapping = PortMapping.objects.get(backend=self.foreign)
        member = Membership.objects.get(user=self.stranger)
        return [self.other, self.foreign, mapping, self.foreign.hostnames.get(), self.node, member, self.stranger]

    def everything(self) -> list[Any]:
        models = {type(row) for row in self.rows()} | {SiteRole}
        found = [list(model._default_manager.order_by("pk").values()) for model in sorted(models, key=str)]
        return [{**row, "last_login": None} for rows in found for row in rows]

    def test_sees_every_list_and_page(self) -> None:
        for model in admin.site._registry:
            with self.subTest(model=model.__name__):
                self.assertEqual(self.client.get(page("changelist", model)).status_code, 200)
                self.assertEqual(self.client.get(page("add", model)).status_code, 403)
        for row in self.rows():
            for action, status in (("change", 200), ("history", 200), ("delete", 403)):
                with self.subTest(row=type(row).__name__, action=action):
                    self.assertEqual(self.client.get(page(action, row)).status_code, status)
        self.assertContains(self.client.get(page("changelist", Backend)), "secluded-backend")
        self.assertContains(self.client.get(page("changelist", Backend) + "?q=secluded"), "secluded-backend")
        counts = {each["title"]: each["number"] for each in self.client.get(reverse("admin:index")).context["counts"]}
        self.assertEqual((counts["backends"], counts["tenants"]), (2, 2))

    def test_pages_hold_nothing_to_fill_in_and_no_secret(self) -> None:
        for row in [*self.rows(), self.auditor]:
            with self.subTest(row=type(row).__name__):
                response = self.client.get(page("change", row))
                hidden = ("_FORMS", "-id", "-user", "-tenant", "-backend", "-hostname", "-port_mapping")  # of its rows
                self.assertEqual([name for name in fields_of(response) if not name.endswith(hidden)], [])
                self.assertNotContains(response, "<select")
                for absent in (SECRET, "pbkdf2", "_save"):
                    self.assertNotContains(response, absent)
        self.assertEqual(self.client.get(f"/admin/auth/user/{self.stranger.pk}/password/").status_code, 403)

    def test_forged_posts_change_nothing(self) -> None:
        before = self.everything()
        self.client.force_login(self.operator)
        forms = {}
        for row in self.rows():
            forms[page("change", row)] = fields_of(self.client.get(page("change", row))) | {"role": "editor"}
            forms[page("delete", row)] = {"post": "yes"}
        for model in (Backend, Hostname, Membership, get_user_model()):
            forms[page("add", model)] = {"tenant": self.acme.pk, "name": "new.example.com", "username": "new"}
        forms[f"/admin/auth/user/{self.stranger.pk}/password/"] = {"password1": SECRET, "password2": SECRET}
        self.client.force_login(self.auditor)
        for address, data in forms.items():
            with self.subTest(address):
                self.assertEqual(self.client.post(address, data).status_code, 403)
        for row in self.rows():
            offered = admin.site.get_model_admin(type(row)).get_actions(self.request_of(self.auditor))
            self.assertEqual(list(offered), [])
            for action in ("delete_selected", "enable", "disable", "disable_at_once"):
                with self.subTest(row=type(row).__name__, action=action):
                    data = {"action": action, "_selected_action": [row.pk], "post": "yes"}
                    self.client.post(page("changelist", type(row)), data)
        self.assertEqual(self.everything(), before)

    def request_of(self, user: Any) -> Any:
        request = self.client.get(reverse("admin:index")).wsgi_request
        request.user = user
        return request

    def test_the_gate(self) -> None:
        for user, seen, edited in ((self.auditor, 2, 0), (self.operator, 2, 2), (self.owner, 1, 1)):
            with self.subTest(user=user.username):
                self.assertEqual(Backend.objects.for_user(user).count(), seen)
                self.assertEqual(Backend.objects.editable_by(user).count(), edited)
        self.assertTrue(permissions.may_view(self.auditor, self.other))
        for may in (permissions.may_edit, permissions.may_manage_members):
            self.assertFalse(may(self.auditor, self.acme))
        inactive = get_user_model().objects.get(pk=self.auditor.pk)
        inactive.is_active = False
        self.assertFalse(Backend.objects.for_user(inactive).exists())

    def test_is_read_once_a_request(self) -> None:
        user = get_user_model().objects.get(pk=self.auditor.pk)
        with kept(), self.assertNumQueries(1):
            self.assertEqual([sight_of(user).auditor for _ in range(3)], [True] * 3)
