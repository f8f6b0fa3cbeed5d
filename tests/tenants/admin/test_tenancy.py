"""Nobody sees or changes rows of a tenant that they are no member of, by any page, filter or forged form."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.test import override_settings
from django.urls import reverse

from tenants.models import (
    AuditEntry,
    Backend,
    BackendHostname,
    Credential,
    Hostname,
    HostRoute,
    Membership,
    NexusNode,
    PortMapping,
    Role,
    Tenant,
)
from tests.support.registry import make_backend
from tests.tenants.admin.pages import AdminTestCase, errors_of, make_user, page

NAMES = ("secluded-backend", "secluded.example.net", "Other Company", "stranger")
HIDDEN = ("secluded", "Other Company", "stranger")


class ForeignUserTest(AdminTestCase):
    def foreign_rows(self) -> list[Any]:
        return [
            self.other,
            self.foreign,
            Hostname.objects.get(name="secluded.example.net"),
            Membership.objects.get(user=self.stranger),
            self.stranger,
        ]

    def assertHidden(self, response: Any) -> None:
        text = response.content.decode(errors="replace")
        # Not assertNotIn, which would print the whole page.
        self.assertEqual([word for word in HIDDEN if word in text], [])

    def test_lists_searches_and_filters(self) -> None:
        for user in (self.owner, self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for model in admin.site._registry:
                address = page("changelist", model)
                queries = [
                    "",
                    "?q=secluded",
                    f"?tenant={self.other.pk}",
                    "?q=Other",
                    "?all=",
                    "?credential=hmac_secret",
                ]
                for query in [*queries, f"?node={self.foreign.nodes.get().pk}", f"?tenant__id__exact={self.other.pk}"]:
                    with self.subTest(user=user.username, address=address + query):
                        response = self.client.get(address + query, follow=True)
                        self.assertIn(response.status_code, (200, 403))
                        found = [row for row in NAMES if row in response.content.decode()]
                        self.assertEqual(found, [])

    def test_addresses_can_not_ask_about_what_is_linked(self) -> None:
        """All members see the nodes, but not whose backends use them."""
        for user in (self.owner, self.viewer):
            self.client.force_login(user)
            for name in ("backends", "backends__gt", "backends__isnull", "backend_links", "backend_links__isnull"):
                with self.subTest(user=user.username, name=name), self.assertLogs("django.security"):
                    answers = [
                        self.client.get(page("changelist", NexusNode), {name: value})
                        for value in (str(self.foreign.pk), "987654")
                    ]
                    self.assertEqual([answer.status_code for answer in answers], [400, 400])
            for model in (NexusNode, Backend, Hostname):
                with self.subTest(user=user.username, model=model.__name__), self.assertLogs("django.security"):
                    answer = self.client.get(page("changelist", model), {"_to_field": "backends"})
                    self.assertEqual(answer.status_code, 400)

    def test_what_exists_elsewhere_looks_like_what_does_not_exist(self) -> None:
        for user in (self.owner, self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for row in self.foreign_rows():
                missing = type(row)(pk=987654)
                for action in ("change", "delete", "history"):
                    for method in ("get", "post"):
                        with self.subTest(user=user.username, row=type(row).__name__, action=action, method=method):
                            found = getattr(self.client, method)(page(action, row), {"post": "yes"})
                            absent = getattr(self.client, method)(page(action, missing), {"post": "yes"})
                            self.assertEqual(found.status_code, absent.status_code)
                            self.assertIn(found.status_code, (302, 403))
                            self.assertEqual(found.headers.get("Location"), absent.headers.get("Location"))
                            shown = self.client.get(reverse("admin:index"))
                            self.assertHidden(shown)
        for row in self.foreign_rows():
            self.assertTrue(type(row)._default_manager.filter(pk=row.pk).exists())

    def test_lookups_that_would_guess_what_is_not_shown(self) -> None:
        self.client.force_login(self.owner)
        with self.assertLogs("django.security", "ERROR"):
            for address in (
                page("changelist", Membership) + "?user__password__startswith=p",
                page("changelist", Backend) + "?credential__fingerprint__startswith=0",
                page("changelist", Hostname) + "?tenant__memberships__user__username__startswith=o",
            ):
                with self.subTest(address):
                    self.assertEqual(self.client.get(address).status_code, 400)

    def test_the_redirect_to_public_pages_tells_nothing(self) -> None:
        self.client.force_login(self.viewer)
        kind = ContentType.objects.get_for_model(Backend).pk
        for debug in (False, True):
            with override_settings(DEBUG=debug):
                answers = [self.client.get(f"/admin/r/{kind}/{key}/") for key in (self.foreign.pk, 987654)]
            self.assertEqual([answer.status_code for answer in answers], [404, 404])
            self.assertEqual(answers[0].content, answers[1].content)

    def test_every_address_of_the_admin_as_somebody_without_a_tenant(self) -> None:
        self.client.force_login(self.nobody)
        self.assertEqual(self.client.get(reverse("admin:index")).status_code, 200)
        for model in admin.site._registry:
            for action in ("changelist", "add"):
                with self.subTest(model=model.__name__, action=action):
                    self.assertEqual(self.client.get(page(action, model)).status_code, 403)

    def test_autocompletes(self) -> None:
        address = reverse("admin:autocomplete")
        for user in (self.owner, self.editor, self.viewer, self.nobody):
            self.client.force_login(user)
            for model, field in (
                ("backend", "tenant"),
                ("hostname", "tenant"),
                ("membership", "tenant"),
                ("membership", "user"),
                ("backendhostname", "hostname"),
                ("backendnode", "node"),
            ):
                query = {"app_label": "tenants", "model_name": model, "field_name": field, "term": ""}
                with self.subTest(user=user.username, model=model, field=field):
                    response = self.client.get(address, query)
                    self.assertIn(response.status_code, (200, 403))
                    self.assertHidden(response)

    def test_actions_on_foreign_rows(self) -> None:
        self.client.force_login(self.owner)
        name = Hostname.objects.get(name="secluded.example.net")
        for model, row, action in (
            (Backend, self.foreign, "disable"),
            (Backend, self.foreign, "delete_selected"),
            (Hostname, name, "delete_selected"),
        ):
            with self.subTest(model=model.__name__, action=action):
                chosen = {"_selected_action": [row.pk], "action": action, "post": "yes"}
                self.assertHidden(self.client.post(page("changelist", model), chosen, follow=True))
                self.assertTrue(model.objects.filter(pk=row.pk).exists())
        self.foreign.refresh_from_db()
        self.assertTrue(self.foreign.enabled)


class ForgedFormTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.editor)
        self.mapping = self.foreign.port_mappings.get()
        self.route = self.mapping.host_routes.get()
        self.link = self.foreign.hostname_links.get()

    def assertUntouched(self) -> None:
        self.assertEqual(PortMapping.objects.get(pk=self.mapping.pk).default_target, "localhost:8443")
        self.assertEqual(PortMapping.objects.get(pk=self.mapping.pk).backend_id, self.foreign.pk)
        self.assertEqual(HostRoute.objects.get(pk=self.route.pk).port_mapping_id, self.mapping.pk)
        self.assertEqual(HostRoute.objects.get(pk=self.route.pk).target, "localhost:9443")
        self.assertEqual(BackendHostname.objects.get(pk=self.link.pk).backend_id, self.foreign.pk)

    def test_keys_of_foreign_rows_in_inlines(self) -> None:
        cases: dict[str, Any] = {
            "port_mappings-0-id": self.mapping.pk,
            "port_mappings-0-host_routes-0-id": self.route.pk,
            "hostname_links-0-id": self.link.pk,
            "node_links-0-id": self.foreign.node_links.get().pk,
            "credential-0-id": self.foreign.credential.pk,
        }
        for name, value in cases.items():
            with self.subTest(name):
                changes = {"port_mappings-0-default_target": "evil:1", "port_mappings-0-host_routes-0-target": "evil:1"}
                forged = self.save(self.backend, **changes, **{name: value})
                absent = self.save(self.backend, **changes, **{name: 987654})
                self.assertEqual((forged.status_code, absent.status_code), (200, 200))
                self.assertEqual(errors_of(forged), errors_of(absent))
                self.assertUntouched()
        deleting = {name: value for name, value in cases.items() if name.startswith(("port", "host"))}
        for name, value in deleting.items():
            self.save(self.backend, **{name: value, name.removesuffix("id") + "DELETE": "on"})
            self.assertUntouched()

    def test_the_parent_of_inlines(self) -> None:
        for name in ("port_mappings-0-backend", "hostname_links-0-backend", "credential-0-backend"):
            with self.subTest(name):
                response = self.save(self.backend, **{name: self.foreign.pk, "weight": 9})
                self.assertEqual(response.status_code, 200)
        response = self.save(self.backend, **{"port_mappings-0-host_routes-0-port_mapping": self.mapping.pk})
        self.assertEqual(response.status_code, 200)
        self.assertUntouched()

    def test_a_new_row_below_a_foreign_parent(self) -> None:
        data = {
            "port_mappings-TOTAL_FORMS": 2,
            "port_mappings-1-backend": self.foreign.pk,
            "port_mappings-1-transport": "tcp",
            "port_mappings-1-public_port": 80,
        }
        self.assertEqual(self.save(self.backend, **data).status_code, 200)
        self.assertEqual(self.foreign.port_mappings.count(), 1)

    def test_rows_do_not_move_to_another_tenant(self) -> None:
        second = make_user("in-both", acme=Role.OWNER, other=Role.OWNER)
        for user in (self.editor, second, self.operator):
            self.client.force_login(user)
            for row in (self.backend, Hostname.objects.get(name="app.example.com")):
                with self.subTest(user=user.username, row=str(row)):
                    self.client.post(page("change", row), {**self.fields(row), "tenant": self.other.pk})
                    row.refresh_from_db()
                    self.assertEqual(row.tenant_id, self.acme.pk)

    def fields(self, row: Any) -> dict[str, Any]:
        from tests.tenants.admin.pages import fields_of

        return fields_of(self.client.get(page("change", row)))

    def test_new_rows_in_a_foreign_tenant(self) -> None:
        for key in (self.other.pk, 987654):
            for model, data in ((Backend, {"name": "evil"}), (Hostname, {"name": "evil.example.com"})):
                with self.subTest(model=model.__name__, tenant=key):
                    response = self.client.post(page("add", model), {**data, "tenant": key})
                    self.assertEqual(response.status_code, 200)
                    message = "Select a valid choice. That choice is not one of the available choices."
                    self.assertEqual(errors_of(response)["tenant"], [message])

    def test_a_foreign_backend_for_an_own_hostname(self) -> None:
        own = Hostname.objects.get(name="app.example.com")
        data = self.fields(own)
        results = []
        for key in (self.foreign.pk, 987654):
            response = self.client.post(
                page("change", own), {**data, "backend_links-TOTAL_FORMS": 2, "backend_links-1-backend": key}
            )
            self.assertEqual(response.status_code, 200)
            results.append(errors_of(response))
        self.assertEqual(results[0], results[1])
        self.assertIn("backend_links-1-backend", results[0])


class RoleTest(AdminTestCase):
    def test_viewers_read_only(self) -> None:
        self.client.force_login(self.viewer)
        response = self.client.get(page("change", self.backend))
        self.assertEqual(response.status_code, 200)
        self.assertContains(response, "app.example.com")
        self.assertNotContains(response, 'name="name"')
        self.assertNotContains(response, 'name="_save"')
        name = Hostname.objects.get(name="app.example.com")
        for address in (
            page("change", self.backend),
            page("delete", self.backend),
            page("change", name),
            page("add", Backend),
            page("add", Hostname),
            page("change", self.node),
            page("change", self.acme),
            page("add", NexusNode),
        ):
            with self.subTest(address):
                self.assertEqual(self.client.post(address, {"post": "yes", "name": "x"}).status_code, 403)
        chosen = {"_selected_action": [self.backend.pk], "action": "disable"}
        self.client.post(page("changelist", Backend), chosen)
        self.backend.refresh_from_db()
        self.assertTrue(self.backend.enabled)

    def test_a_viewer_here_and_an_editor_there(self) -> None:
        mixed = make_user("mixed", acme=Role.VIEWER, other=Role.EDITOR)
        self.client.force_login(mixed)
        self.assertEqual(self.client.post(page("change", self.backend), {"name": "x"}).status_code, 403)
        self.assertEqual(self.client.post(page("delete", self.backend), {"post": "yes"}).status_code, 403)
        chosen = {"_selected_action": [self.backend.pk, self.foreign.pk], "action": "disable"}
        response = self.client.post(page("changelist", Backend), chosen, follow=True)
        self.assertContains(response, "1 backend disabled.")
        self.assertContains(response, "1 not touched")
        chosen |= {"action": "delete_selected", "post": "yes"}
        self.client.post(page("changelist", Backend), chosen)
        self.assertTrue(Backend.objects.filter(pk=self.backend.pk).exists())
        response = self.client.post(page("add", Backend), {"tenant": self.acme.pk, "name": "evil"})
        self.assertIn("tenant", errors_of(response))

    def test_only_operators_change_nodes_and_tenants(self) -> None:
        for user in (self.owner, self.editor):
            self.client.force_login(user)
            for row in (self.node, self.acme):
                self.assertEqual(self.client.get(page("change", row)).status_code, 200)
                self.assertEqual(self.client.post(page("change", row), {"name": "x"}).status_code, 403)
                self.assertEqual(self.client.post(page("delete", row), {"post": "yes"}).status_code, 403)
        self.assertTrue(Tenant.objects.filter(pk=self.acme.pk).exists())

    def test_owners_manage_members(self) -> None:
        self.client.force_login(self.owner)
        newcomer = make_user("newcomer", acme=Role.VIEWER)
        membership = Membership.objects.get(user=newcomer)
        self.assertSaved(self.client.post(page("change", membership), {"role": "editor"}))
        membership.refresh_from_db()
        self.assertEqual(membership.role, Role.EDITOR)
        self.assertSaved(self.client.post(page("delete", membership), {"post": "yes"}))
        self.assertFalse(Membership.objects.filter(user=newcomer).exists())

    def test_owners_keep_their_own_role_and_touch_no_other_tenant(self) -> None:
        self.client.force_login(self.owner)
        own = Membership.objects.get(user=self.owner)
        self.assertEqual(self.client.post(page("change", own), {"role": "viewer"}).status_code, 403)
        self.assertEqual(self.client.post(page("delete", own), {"post": "yes"}).status_code, 403)
        self.client.post(page("changelist", Membership), {"action": "delete_selected", "_selected_action": [own.pk]})
        self.revert(own)
        foreign = Membership.objects.get(user=self.stranger)
        self.assertEqual(self.client.post(page("delete", foreign), {"post": "yes"}).status_code, 302)
        self.assertEqual(Membership.objects.filter(pk__in=[own.pk, foreign.pk], role=Role.OWNER).count(), 2)

    def revert(self, membership: Membership) -> None:
        """Take back that there is this member."""
        entries = AuditEntry.objects.filter(model="tenants.membership", object_id=str(membership.pk), action="created")
        address = reverse("admin:tenants_auditentry_revert", args=[entries.get().pk])
        self.assertContains(self.client.post(address, follow=True), "not change it")

    def test_editors_and_viewers_do_not_see_members(self) -> None:
        for user in (self.editor, self.viewer):
            self.client.force_login(user)
            self.assertEqual(self.client.get(page("changelist", Membership)).status_code, 403)
            self.assertEqual(self.client.get(page("add", Membership)).status_code, 403)

    def test_operators_do_everything(self) -> None:
        self.client.force_login(self.operator)
        for model in admin.site._registry:
            for action in ("changelist", "add"):
                # Port mappings and credentials are added on their backend's page, audit entries nowhere.
                expected = 403 if action == "add" and model in (AuditEntry, Credential, PortMapping) else 200
                with self.subTest(model=model.__name__, action=action):
                    self.assertEqual(self.client.get(page(action, model)).status_code, expected)
        for row in (self.acme, self.backend, self.node, self.editor, Membership.objects.first()):
            for action in ("change", "delete", "history"):
                with self.subTest(row=str(row), action=action):
                    self.assertEqual(self.client.get(page(action, row)).status_code, 200)

    def test_deleting_asks_first_and_says_how_much_goes(self) -> None:
        make_backend(self.acme)
        self.client.force_login(self.operator)
        response = self.client.get(page("delete", self.acme))
        self.assertContains(response, "Backends: 2")
        self.assertContains(response, "Port mappings: 1")
