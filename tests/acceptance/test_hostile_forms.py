"""A tenant's owner who posts what no page of ours would: nothing of it is an error of the server."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from nexusadmin.accounts.models import LoginSession
from tenants.models import AuditEntry
from tests.tenants.admin.pages import AdminTestCase, errors_of, page


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

    def test_searches_for_a_book(self) -> None:
        addresses = self.lists()
        for text in ("a " * 20_000, '"' * 30_001, "x" * 60_000, " ".join(f"{number}" for number in range(3_000))):
            for address in addresses:
                with self.subTest(address=address, text=text[:10]), CaptureQueriesContext(connection) as queries:
                    self.assertEqual(self.client.get(address, {"q": text}).status_code, 200)
                self.assertLess(len(queries), 100)
        for auditing in (page("changelist", get_user_model()), page("changelist", Group)):
            self.client.force_login(self.operator)
            self.assertEqual(self.client.get(auditing, {"q": "a " * 20_000}).status_code, 200)

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

    def test_json_that_its_reader_or_a_database_fails_at(self) -> None:
        texts = ("[" * 60_000, "9" * 5_000, '["\\ud800"]', '["\\u0000"]', '{"a": NaN}', "[1e400]", "-Infinity", "\0")
        for text in texts:
            for name in ("allowed_outbound_ports", "initial-allowed_outbound_ports"):
                with self.subTest(text=text[:20], name=name):
                    self.assertIn(self.save(self.backend, **{name: text}).status_code, (200, 302))
            answer = self.save(self.backend, allowed_outbound_ports=text)
            self.assertIn("allowed_outbound_ports", errors_of(answer))
        self.client.force_login(self.operator)
        for name in ("args", "env"):
            changes = {f"credential-0-{field}": text for field, text in (("kind", "command"), ("command", "/bin/x"))}
            for text in texts:
                with self.subTest(text=text[:20], name=name):
                    answer = self.save(self.backend, **changes, **{f"credential-0-{name}": text})
                    self.assertIn(f"credential-0-{name}", errors_of(answer))

    def test_ending_a_session_that_can_be_none(self) -> None:
        number = LoginSession.objects.count()
        self.client.post(reverse("sessions"), {"end": ["\0", "x"]})
        self.assertEqual(LoginSession.objects.count(), number)
