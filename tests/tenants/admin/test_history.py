"""Tests of tenants.admin.history: an object's entries in the audit trail, on its own page."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import LogEntry

from tenants.models import AuditEntry, Backend
from tenants.services.audit import journal
from tests.tenants.admin.pages import AdminTestCase, page


class HistoryTest(AdminTestCase):
    def entry(self, **filters: Any) -> AuditEntry:
        return AuditEntry.objects.filter(**filters).latest("pk")

    def text(self, address: str, user: Any) -> str:
        self.client.force_login(user)
        response = self.client.get(address)
        self.assertEqual(response.status_code, 200, address)
        content = b"".join(response.streaming_content) if response.streaming else response.content
        return content.decode()

    def test_history_of_an_object_and_what_hangs_on_it(self) -> None:
        mapping = self.backend.port_mappings.get()
        with journal.acting(user=self.editor, address="192.0.2.7"):
            mapping.default_target = "localhost:77"
            mapping.save()
            mapping.host_routes.all().delete()
        for user in (self.operator, self.owner, self.editor, self.viewer):
            text = self.text(page("history", self.backend), user)
            self.assertIn("localhost:77", text)
            self.assertIn("deleted app.example.com to localhost:9443", text)
            self.assertEqual("192.0.2.7" in text, user in (self.operator, self.owner), user)
        self.client.force_login(self.owner)
        answers = [self.client.get(page("history", row)) for row in (self.foreign, Backend(pk=987654))]
        self.assertEqual([answer.status_code for answer in answers], [302, 302])
        self.assertEqual(answers[0].headers["Location"], answers[1].headers["Location"])

    def test_history_begins_with_the_tenant_that_has_the_object_now(self) -> None:
        name = self.foreign.hostnames.get()
        self.foreign.hostname_links.all().delete()
        name.tenant = self.acme
        name.save()
        text = self.text(page("history", name), self.owner)
        self.assertIn("another tenant", text)
        self.assertNotIn("Other Company", text)
        self.assertNotIn("created secluded", text)

    def test_nodes_have_a_history_for_operators_and_tell_members_nothing_of_others(self) -> None:
        self.assertIn("created", self.text(page("history", self.node), self.operator))
        self.assertNotIn("secluded", self.text(page("history", self.node), self.viewer))

    def test_djangos_own_log_is_not_written(self) -> None:
        self.client.force_login(self.editor)
        self.assertSaved(self.save(self.backend, weight=3))
        self.assertFalse(LogEntry.objects.exists())
        entry = self.entry(model="tenants.backend")
        self.assertEqual((entry.actor, entry.changes, entry.origin), (self.editor, {"weight": [1, 3]}, "admin"))
