"""Two tabs: the stale one puts nothing back that others changed."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model

from tenants.changes.actor import acting
from tenants.models import Backend, Hostname, HostRoute, Membership, Role
from tests.support.registry import make_domain
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, make_user, page


class StalePageTests(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.editor)
        self.tab = self.open(self.backend)

    def change(self, **fields: Any) -> None:
        """Change the backend as somebody else."""
        with acting(name="ann"):
            backend = Backend.objects.get(pk=self.backend.pk)
            for name, value in fields.items():
                setattr(backend, name, value)
            backend.save()

    def post(self, tab: dict[str, Any], **changes: Any) -> Any:
        return self.client.post(page("change", self.backend), tab | changes)

    def said(self, response: Any) -> str:
        self.assertEqual(response.status_code, 200)
        return " ".join(errors_of(response)["__all__"])

    def test_it_names_who_changed_what_and_saves_nothing(self) -> None:
        self.change(weight=50)
        refused = self.post(self.tab, site="east")
        said = self.said(refused)
        self.assertIn("Nothing was saved: this was changed since the page was opened", said)
        self.assertRegex(said, r"UTC, ann updated the backend acme/edge \(weight: 1 → 50\)")
        stored = Backend.objects.get(pk=self.backend.pk)
        self.assertEqual((stored.weight, stored.site), (50, ""))
        # What the user left alone is taken over, what was entered is kept: the second save is a deliberate one.
        tab = fields_of(refused)
        self.assertEqual((tab["weight"], tab["site"]), ("50", "east"))
        self.assertSaved(self.post(tab))
        stored.refresh_from_db()
        self.assertEqual((stored.weight, stored.site), (50, "east"))

    def test_what_both_have_changed_is_shown_at_the_field(self) -> None:
        self.change(weight=50)
        self.change(weight=60)
        refused = self.post(self.tab, weight="7")
        self.assertEqual(errors_of(refused)["weight"], ["ann made this 60; save again to replace it."])
        self.assertEqual(fields_of(refused)["weight"], "7")
        self.assertSaved(self.post(fields_of(refused)))
        self.assertEqual(Backend.objects.get(pk=self.backend.pk).weight, 7)

    def test_a_third_change_between_the_two_saves_counts_too(self) -> None:
        self.change(weight=50)
        tab = fields_of(self.post(self.tab, site="east"))
        self.change(site="west")
        refused = self.post(tab)
        self.assertEqual(errors_of(refused)["site"], ["ann made this west; save again to replace it."])

    def test_rows_below_count_and_are_merged(self) -> None:
        mapping = self.backend.port_mappings.get()
        route = mapping.host_routes.get()
        with acting(name="ann"):
            mapping.default_target = "localhost:1"
            mapping.save()
            HostRoute.objects.create(port_mapping=mapping, pattern="*.example.com", target="localhost:2")
            self.backend.credential.token_ttl = 77
            self.backend.credential.save()
        prefix = "port_mappings-0-host_routes-0"
        refused = self.post(self.tab, **{f"{prefix}-target": "localhost:5"})
        said = self.said(refused)
        for part in ("default target: localhost:8443 → localhost:1", "*.example.com", "token lifetime: 30 → 77"):
            self.assertIn(part, said)
        tab = fields_of(refused)
        self.assertEqual(tab["port_mappings-0-default_target"], "localhost:1")
        self.assertEqual(tab["credential-0-token_ttl"], "77")
        self.assertSaved(self.post(tab))
        route.refresh_from_db()
        mapping.refresh_from_db()
        self.assertEqual((route.target, mapping.default_target), ("localhost:5", "localhost:1"))
        self.assertEqual(mapping.host_routes.count(), 2)

    def test_a_switch_and_an_instant(self) -> None:
        self.change(enabled=False)
        tab = fields_of(self.post(self.tab, name="renamed"))
        self.assertNotIn("enabled", tab)
        self.assertSaved(self.post(tab))
        self.assertEqual(Backend.objects.values_list("enabled", "name").get(pk=self.backend.pk), (False, "renamed"))

    def test_other_rows_and_saves_of_the_same_page_are_no_change(self) -> None:
        with acting(name="ann"):
            self.foreign.weight = 9
            self.foreign.save()
        self.assertSaved(self.post(self.tab, weight="7"))
        self.assertSaved(self.post(self.open(self.backend), weight="8"))

    def test_ones_own_other_tab_counts(self) -> None:
        self.assertSaved(self.post(self.open(self.backend), weight="8"))
        self.assertIn("editor updated the backend", self.said(self.post(self.tab, site="east")))

    def test_a_page_that_does_not_say_when_it_was_opened_is_shown_again(self) -> None:
        for opened in ("", "x", "9" * 40, "-1"):
            with self.subTest(opened):
                refused = self.post(self.tab, _opened=opened, weight="7")
                self.assertIn("does not say when it was opened", self.said(refused))
        self.assertSaved(self.post(fields_of(refused)))
        # A program that posts without a page has looked at nothing that could have changed.
        self.assertSaved(self.post({name: value for name, value in self.tab.items() if name != "_opened"}))

    def test_what_only_operators_see_is_not_told(self) -> None:
        self.client.force_login(self.operator)
        tab = self.open(self.backend)
        with acting(name="ann"):
            credential = self.backend.credential
            credential.kind, credential.command, credential.env = "command", "/bin/attest", {"A": "b"}
            credential.save()
        self.assertIn("/bin/attest", self.said(self.post(tab)))
        self.client.force_login(self.editor)
        self.assertNotIn("/bin/attest", self.said(self.post(self.tab)))

    def test_every_page_says_when_it_was_opened(self) -> None:
        self.client.force_login(self.operator)
        mapping, domain = self.backend.port_mappings.get(), make_domain(self.acme, "example.org")
        member = Membership.objects.get(user=self.editor)
        for row in (self.acme, self.node, mapping, domain, member, self.editor):
            with self.subTest(row):
                self.assertRegex(fields_of(self.client.get(page("change", row)))["_opened"], "^[0-9]+$")

    def test_the_page_of_a_mapping_of_a_hostname_and_of_a_user(self) -> None:
        self.client.force_login(self.operator)
        mapping, hostname = self.backend.port_mappings.get(), Hostname.objects.get(name="app.example.com")
        user = make_user("joe", acme=Role.VIEWER)
        pages = [page("change", row) for row in (mapping, hostname, user)]
        tabs = [fields_of(self.client.get(each)) for each in pages]
        with acting(name="ann"):
            mapping.dial_timeout = 3
            mapping.save()
            hostname.backend_links.all().delete()
            Membership.objects.filter(user=user).update(role=Role.EDITOR)
        for address, tab, word in zip(pages, tabs, ("dial timeout", "hostname", "role: "), strict=True):
            with self.subTest(address):
                said = self.said(self.client.post(address, tab))
                self.assertIn("ann ", said)
                self.assertIn(word, said)
        self.assertEqual(get_user_model().objects.get(pk=user.pk).memberships.get().role, Role.EDITOR)
