"""A tenant's owner who posts what no page of ours would: nothing of it is an error of the server."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse

from tenants.models import AuditEntry, LoginSession
from tests.tenants.admin.pages import AdminTestCase, page


class NothingFailsTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.owner)

    def lists(self) -> list[str]:
        addresses = [page("changelist", model) for model in admin.site._registry]
        return [address for address in addresses if self.client.get(address).status_code == 200]

    def test_actions_on_what_can_be_no_row(self) -> None:
        for address in self.lists():
            for key in ("abc", "\0", "", "-1", "9" * 30, "9" * 5_000):
                chosen = {"action": "delete_selected", "_selected_action": ["1", key]}
                with self.subTest(address=address, key=key[:40]):
                    # The trail has no actions, and shows its list.
                    self.assertIn(self.client.post(address, chosen).status_code, (200, 400))

    def test_filters_with_what_postgresql_takes_in_no_text(self) -> None:
        names = {
            str(getattr(each, "parameter_name", f"{each}__exact"))
            for model_admin in admin.site._registry.values()
            for each in model_admin.list_filter
            if not isinstance(each, tuple)
        }
        self.assertIn("role__exact", names)
        for address in self.lists():
            for name in {*names, "batch"}:
                answer = self.client.get(address, {name: "a\0"})
                self.assertEqual((answer.status_code, answer["Location"]), (302, f"{address}?e=1"), name)
        trail = page("changelist", AuditEntry)
        answer = self.client.get(f"{trail}export/csv/", {"who": "\0"})
        self.assertRedirects(answer, f"{trail}?e=1")

    def test_ending_a_session_that_can_be_none(self) -> None:
        number = LoginSession.objects.count()
        self.client.post(reverse("sessions"), {"end": ["\0", "x"]})
        self.assertEqual(LoginSession.objects.count(), number)
