"""Where targets may be, in the admin: operators say it, editors meet it, and nobody else sees sites."""

from __future__ import annotations

from typing import Any

from django.contrib.messages import get_messages

from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class BoundTest(AdminTestCase):
    """The tenant acme is bounded; its rows on loopback were there before."""

    def setUp(self) -> None:
        self.acme.target_networks, self.acme.target_unix = "", False
        self.acme.save()
        self.client.force_login(self.editor)

    def test_an_error_stands_at_its_field_and_all_else_stays_as_entered(self) -> None:
        response = self.save(
            self.backend,
            **{
                "name": "renamed",
                "port_mappings-0-default_target": "169.254.169.254:80",
                "port_mappings-0-host_routes-0-target": "[::ffff:127.0.0.1]:80",
            },
        )
        errors = errors_of(response)
        self.assertEqual(
            set(errors), {"port_mappings-0-default_target", "port_mappings-0-host_routes-0-target"}, errors
        )
        self.assertIn("169.254.169.254 is a link-local address", errors["port_mappings-0-default_target"][0])
        self.assertIn("have an operator allow", errors["port_mappings-0-host_routes-0-target"][0])
        self.assertContains(response, "renamed")
        self.backend.refresh_from_db()
        self.assertEqual(self.backend.name, "edge")

    def test_what_was_there_before_does_not_keep_other_edits(self) -> None:
        response = self.client.post(page("change", self.backend), {**self.open(self.backend), "weight": 7}, follow=True)
        self.backend.refresh_from_db()
        self.assertEqual(self.backend.weight, 7)
        self.assertContains(response, "Refused like that: 2 default targets and host routes.")
        mapping = self.backend.port_mappings.get()
        fields = fields_of(self.client.get(page("change", mapping)))
        self.assertSaved(self.client.post(page("change", mapping), {**fields, "dial_timeout": 7}))

    def test_a_new_backend(self) -> None:
        fields = fields_of(self.client.get(page("add", self.backend)))
        fields |= {"tenant": self.acme.pk, "name": "new", "port_mappings-0-public_port": 80}
        refused = self.client.post(
            page("add", self.backend), {**fields, "port_mappings-0-default_target": "localhost:1"}
        )
        self.assertIn("is the relay's own machine", errors_of(refused)["port_mappings-0-default_target"][0])
        self.assertSaved(
            self.client.post(page("add", self.backend), {**fields, "port_mappings-0-default_target": "10.0.0.1:1"})
        )

    def test_who_may_allow_it_is_led_to_where(self) -> None:
        link = f"""You may: <a href="{page("change", self.acme)}" class="underline">the tenant's page</a> has it"""
        for user, led in ((self.operator, True), (self.editor, False)):
            self.client.force_login(user)
            fields = fields_of(self.client.get(page("add", self.backend)))
            fields |= {"tenant": self.acme.pk, "name": "new", "port_mappings-0-public_port": 80}
            new = {**fields, "port_mappings-0-default_target": "127.0.0.1:1"}
            for refused in (
                self.client.post(page("add", self.backend), new),
                self.save(self.backend, **{"port_mappings-0-default_target": "127.0.0.1:1"}),
            ):
                said = errors_of(refused)["port_mappings-0-default_target"][0]
                self.assertIn("have an operator allow the tenant 127.0.0.1", said)
                self.assertEqual(link in refused.content.decode(), led)

    def test_members_read_their_bounds_and_change_none(self) -> None:
        for user in (self.owner, self.editor, self.viewer):
            self.client.force_login(user)
            self.assertContains(self.client.get(page("change", self.acme)), "Where targets may be")
            self.client.post(page("change", self.acme), {"slug": "acme", "target_networks": "0.0.0.0/0"})
            self.acme.refresh_from_db()
            self.assertEqual(self.acme.target_networks, "")


class OperatorTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.operator)

    def save_row(self, row: Any, **changes: Any) -> list[str]:
        """Save a row's page and return what it says then."""
        fields = fields_of(self.client.get(page("change", row)))
        response = self.client.post(page("change", row), {**fields, **changes}, follow=True)
        self.assertEqual(response.redirect_chain[-1][1], 302, response.context and response.context.get("errors"))
        return [str(message) for message in get_messages(response.wsgi_request)] or [
            str(message) for message in response.context["messages"]
        ]

    def test_narrowing_says_how_many_routes_it_refuses(self) -> None:
        said = self.save_row(self.acme, target_networks="usual")
        self.assertIn("this policy refuses 2 default targets and host routes", " ".join(said))
        self.acme.refresh_from_db()
        self.assertEqual(self.acme.target_networks, "usual")
        self.assertNotIn("refuses", " ".join(self.save_row(self.acme, name="Acme")))
        self.assertNotIn("refuses", " ".join(self.save_row(self.acme, target_networks="127.0.0.0/8")))

    def test_errors_stand_at_their_fields(self) -> None:
        fields = fields_of(self.client.get(page("change", self.acme)))
        changes = {"target_networks": "10.0.0.0/8, everything", "target_ports": "http"}
        response = self.client.post(page("change", self.acme), {**fields, **changes})
        errors = errors_of(response)
        self.assertIn("'everything' is neither an address nor a network", errors["target_networks"][0])
        self.assertIn("write ports and ranges of them", errors["target_ports"][0])

    def test_commands_that_may_not_run_are_told_at_their_field(self) -> None:
        changes = {"credential-0-kind": "command", "credential-0-command": "/bin/sh", "credential-0-args": "[]"}
        with self.settings(CREDENTIAL_COMMANDS=["/bin/attest"]):
            response = self.save(self.backend, **changes)
            self.assertIn("setting CREDENTIAL_COMMANDS", errors_of(response)["credential-0-command"][0])
            self.assertSaved(self.save(self.backend, **{**changes, "credential-0-command": "/bin/attest"}))
