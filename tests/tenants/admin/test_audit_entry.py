"""Tests of the audit trail's pages: who sees what, files, and the button that takes a change back."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from io import StringIO
from typing import Any

from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tenants import housekeeping
from tenants.models import AuditEntry, CredentialKind, PortClaim, Tenant
from tenants.services.audit import journal
from tests.tenants.admin.pages import AdminTestCase, page

LIST = "/admin/tenants/auditentry/"
HIDDEN = ("secluded", "Other Company", "stranger")


class TrailPagesTest(AdminTestCase):
    def entry(self, **filters: Any) -> AuditEntry:
        return AuditEntry.objects.filter(**filters).latest("pk")

    def text(self, address: str, user: Any) -> str:
        self.client.force_login(user)
        response = self.client.get(address)
        self.assertEqual(response.status_code, 200, address)
        content = b"".join(response.streaming_content) if response.streaming else response.content
        return content.decode()

    # -- the gate

    def test_owners_see_their_tenants_entries_only(self) -> None:
        for query in ("", "?q=cluded", "?tenant=other", "?who=operator", "?q=app", "?kind=tenants.tenant"):
            text = self.text(LIST + query, self.owner)
            self.assertEqual([word for word in HIDDEN if word in text], [], query)
        self.assertIn("edge", self.text(LIST, self.owner))
        self.assertIn("secluded-backend", self.text(LIST, self.operator))

    def test_editors_viewers_and_strangers_have_no_list(self) -> None:
        for user in (self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for address in (LIST, f"{LIST}export/csv/", f"{LIST}export/json/"):
                self.assertEqual(self.client.get(address).status_code, 403)
            self.assertNotIn(LIST, self.client.get(reverse("admin:index")).content.decode())
        self.client.force_login(self.owner)
        self.assertIn(LIST, self.client.get(reverse("admin:index")).content.decode())

    def test_entries_of_others_look_like_none(self) -> None:
        foreign = self.entry(tenant_slug="other")
        for user in (self.owner, self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for suffix in ("change", "revert", "delete", "history"):
                for method in ("get", "post"):
                    with self.subTest(user=user.username, suffix=suffix, method=method):
                        ask = getattr(self.client, method)
                        answers = [ask(f"{LIST}{key}/{suffix}/", {"post": "yes"}) for key in (foreign.pk, 987654)]
                        self.assertEqual(answers[0].status_code, answers[1].status_code)
                        self.assertIn(answers[0].status_code, (302, 403))
                        self.assertEqual(answers[0].headers.get("Location"), answers[1].headers.get("Location"))

    def test_nothing_is_added_changed_or_deleted(self) -> None:
        self.client.force_login(self.operator)
        entry = self.entry()
        count = AuditEntry.objects.count()
        self.assertEqual(self.client.get(f"{LIST}add/").status_code, 403)
        self.assertEqual(self.client.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code, 403)
        self.client.post(f"{LIST}{entry.pk}/change/", {"actor_name": "x"})
        self.client.post(LIST, {"action": "delete_selected", "_selected_action": entry.pk, "post": "yes"})
        self.assertEqual(AuditEntry.objects.filter(pk__lte=entry.pk).count(), count)
        self.assertNotEqual(self.entry(pk=entry.pk).actor_name, "x")

    def test_addresses_can_not_ask_what_is_not_shown(self) -> None:
        self.client.force_login(self.owner)
        with self.assertLogs("django.security", "ERROR"):
            for query in ("changes__command__1__startswith=a", "actor__password__startswith=p", "instant__year=2026"):
                self.assertEqual(self.client.get(f"{LIST}?{query}").status_code, 400, query)

    # -- list and page

    def test_filters(self) -> None:
        with journal.acting(user=self.editor, origin="api"):
            claim = PortClaim.objects.create(backend=self.backend, public_port=1)
        batch = self.entry(object_id=str(claim.pk), model="tenants.portclaim").batch
        wanted = {
            "tenant": "acme",
            "who": "editor",
            "did": "created",
            "kind": "tenants.portclaim",
            "through": "api",
            "batch": str(batch),
            "q": "tcp:1",
        }
        self.client.force_login(self.operator)
        for given in [{name: value} for name, value in wanted.items()] + [wanted]:
            response = self.client.get(LIST, given)
            self.assertIn("tcp:1", response.content.decode(), given)
        other = {"tenant": "nope", "who": "nope", "did": "other", "kind": "tenants.nexusnode", "through": "import"}
        for name, value in other.items():
            self.assertNotIn("tcp:1 ", self.client.get(LIST, {**wanted, name: value}).content.decode(), name)
        self.assertEqual(self.client.get(LIST, {"batch": "no-uuid"}).status_code, 302)

    def test_the_list_costs_the_same_with_many_entries(self) -> None:
        self.client.force_login(self.owner)

        def cost() -> int:
            self.client.get(LIST)
            with CaptureQueriesContext(connection) as queries:
                self.assertEqual(self.client.get(LIST).status_code, 200)
            return len(queries)

        few = cost()
        for number in range(60):
            PortClaim.objects.create(backend=self.backend, public_port=number + 1)
        self.assertEqual(cost(), few)

    def test_an_entry(self) -> None:
        self.backend.weight, self.backend.enabled = 5, False
        with journal.acting(user=self.editor, origin="admin", address="192.0.2.7"):
            self.backend.save()
        entry = self.entry(model="tenants.backend")
        text = self.text(f"{LIST}{entry.pk}/change/", self.owner)
        for words in (
            "acme/edge",
            "editor",
            "192.0.2.7",
            "weight",
            ">1<",
            ">5<",
            "on",
            "off",
            page("change", self.backend),
        ):
            self.assertIn(words, text)

    def test_markup_in_values_is_text(self) -> None:
        self.backend.name = "<script>alert(1)</script>"
        self.backend.save()
        entry = self.entry(model="tenants.backend")
        for address in (LIST, f"{LIST}{entry.pk}/change/", page("history", self.backend)):
            self.assertNotIn("<script>alert", self.text(address, self.owner))

    def test_what_only_operators_are_shown(self) -> None:
        credential = self.backend.credential
        credential.kind, credential.command, credential.args = CredentialKind.COMMAND, "/opt/attest", ["--for", "acme"]
        credential.save()
        entry = self.entry(model="tenants.credential")
        for address in (
            LIST,
            f"{LIST}{entry.pk}/change/",
            f"{LIST}export/csv/",
            f"{LIST}export/json/",
            page("history", self.backend),
        ):
            with self.subTest(address):
                self.assertNotIn("/opt/attest", self.text(address, self.owner))
        self.assertIn("/opt/attest", self.text(f"{LIST}{entry.pk}/change/", self.operator))

    def test_another_tenants_key_is_not_shown(self) -> None:
        claim = PortClaim.objects.create(backend=self.backend, public_port=1)
        claim.backend = self.foreign
        claim.save()
        entry = self.entry(model="tenants.portclaim", tenant_slug="acme")
        text = self.text(f"{LIST}{entry.pk}/change/", self.owner)
        self.assertIn("another tenant&#x27;s backend", text)
        self.assertNotIn(f"#{self.foreign.pk}", text)

    # -- history

    # -- files

    def test_files_hold_what_the_list_shows(self) -> None:
        query = "?tenant=acme&did=created"
        found = json.loads(self.text(f"{LIST}export/json/{query}", self.owner))
        self.assertEqual(len(found), AuditEntry.objects.filter(tenant_slug="acme", action="created").count())
        self.assertEqual({each["tenant"] for each in found}, {"acme"})
        rows = list(csv.DictReader(StringIO(self.text(f"{LIST}export/csv/{query}", self.owner))))
        self.assertEqual([row["id"] for row in rows], [str(each["id"]) for each in found])
        self.assertEqual(json.loads(rows[0]["changes"]), found[0]["changes"])
        self.assertEqual(json.loads(self.text(f"{LIST}export/json/?tenant=other", self.owner)), [])
        self.assertIn(f"{LIST}export/csv/{query}".replace("&", "&amp;"), self.text(LIST + query, self.owner))

    def test_files_have_no_formulas(self) -> None:
        for text in ("=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "\r=1"):
            journal.record("noted", tenant=self.acme, text=text)
        rows = list(csv.DictReader(StringIO(self.text(f"{LIST}export/csv/", self.owner))))
        self.assertEqual([row["object"][:1] for row in rows[:6]], ["'"] * 6)

    def test_an_odd_question_for_a_file(self) -> None:
        self.client.force_login(self.owner)
        for address in (f"{LIST}export/xml/", f"{LIST}export/csv/?batch=x"):
            self.assertEqual(self.client.get(address).status_code, 302)

    # -- reverting

    def test_revert(self) -> None:
        self.client.force_login(self.editor)
        self.assertSaved(self.save(self.backend, weight=3))
        entry = self.entry(model="tenants.backend")
        self.client.force_login(self.owner)
        self.assertIn("Revert this", self.client.get(f"{LIST}{entry.pk}/change/").content.decode())
        self.assertEqual(self.client.get(f"{LIST}{entry.pk}/revert/").status_code, 302)
        self.backend.refresh_from_db()
        self.assertEqual(self.backend.weight, 3)
        response = self.client.post(f"{LIST}{entry.pk}/revert/", follow=True)
        self.assertContains(response, "as it was before")
        self.backend.refresh_from_db()
        self.assertEqual(self.backend.weight, 1)
        again = self.client.post(f"{LIST}{entry.pk}/revert/", follow=True)
        self.assertContains(again, "weight is 1, not 3")
        reverted = self.entry(model="tenants.backend")
        self.assertEqual((reverted.actor, reverted.changes), (self.owner, {"weight": [3, 1]}))

    def test_no_button_for_who_may_not(self) -> None:
        self.acme.name = "Acme"
        self.acme.save()
        entry = self.entry(model="tenants.tenant", tenant_slug="acme")
        self.client.force_login(self.owner)
        self.assertNotContains(self.client.get(f"{LIST}{entry.pk}/change/"), "Revert this")
        self.assertContains(self.client.post(f"{LIST}{entry.pk}/revert/", follow=True), "not change it")
        self.assertEqual(Tenant.objects.get(slug="acme").name, "Acme")

    # -- command and job

    def test_what_is_too_old_goes(self) -> None:
        now = timezone.now()
        old = [AuditEntry(instant=now - timedelta(days=days), actor_name="x", action="old") for days in (731, 800, 729)]
        AuditEntry.objects.bulk_create(old)
        count = AuditEntry.objects.count()
        with override_settings(AUDIT_DAYS=0):
            self.assertEqual(housekeeping.job("audit").run(), "")
        self.assertIn("2 audit entries", housekeeping.job("audit").run())
        self.assertEqual(AuditEntry.objects.count(), count - 2)
        self.assertEqual(housekeeping.job("audit").run(), "")
