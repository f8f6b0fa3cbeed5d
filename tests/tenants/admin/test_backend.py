"""One page does everything that belongs to a backend."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.http import QueryDict

from tenants.changes import generations
from tenants.models import Backend, BackendHostname, Change, ChangeKind, Hostname, HostRoute, PortClaim, PortMapping
from tests.support.registry import make_backend, make_node, make_token
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class BackendPageTest(AdminTestCase):
    def setUp(self) -> None:
        self.client.force_login(self.editor)

    def test_saving_an_untouched_page_changes_nothing(self) -> None:
        before = generations.current()
        self.assertSaved(self.save(self.backend))
        self.assertEqual(generations.current(), before)

    def test_saving_an_untouched_page_of_an_empty_backend_changes_nothing(self) -> None:
        empty = make_backend(self.acme)
        before = generations.current()
        self.assertSaved(self.save(empty))
        self.assertEqual(generations.current(), before)

    def test_a_backend_by_its_name_alone(self) -> None:
        data = fields_of(self.client.get(page("add", Backend))) | {"name": "bare"}
        response = self.client.post(page("add", Backend), data, follow=True)
        self.assertContains(response, "It has no credential")
        self.assertTrue(Backend.objects.filter(tenant=self.acme, name="bare").exists())

    def test_a_page_of_more_rows_than_django_takes_by_default(self) -> None:
        names = [Hostname(tenant=self.acme, name=f"h{number}.example.com") for number in range(400)]
        rows = Hostname.objects.bulk_create(names)
        BackendHostname.objects.bulk_create([BackendHostname(backend=self.backend, hostname=row) for row in rows])
        data = self.open(self.backend)
        self.assertGreater(len(data), 1000)
        self.assertSaved(self.client.post(page("change", self.backend), data | {"hostname_links-7-DELETE": "on"}))
        self.assertEqual(self.backend.hostname_links.count(), 400)

    def test_a_save_that_would_keep_everybody_waiting_is_refused(self) -> None:
        routes = "port_mappings-1-host_routes"
        rows: dict[str, Any] = {f"{routes}-TOTAL_FORMS": 101, f"{routes}-INITIAL_FORMS": 0}
        rows["port_mappings-TOTAL_FORMS"] = 401
        for number in range(1, 401):
            rows |= {f"port_mappings-{number}-transport": "tcp", f"port_mappings-{number}-public_port": 1000 + number}
        for number in range(101):
            rows[f"{routes}-{number}-pattern"] = f"r{number}.example.com"
            rows[f"{routes}-{number}-target"] = "localhost:1"
        refused = self.save(self.backend, **rows)
        self.assertTrue(b"501 rows would be changed: 500 at most in one save" in refused.content, errors_of(refused))
        self.assertEqual(self.backend.port_mappings.count(), 1)
        rows[f"{routes}-TOTAL_FORMS"] = 100
        self.assertSaved(self.save(self.backend, **rows))
        self.assertEqual(self.backend.port_mappings.count(), 401)

    def test_a_new_backend_with_all_that_belongs_to_it_in_one_save(self) -> None:
        data = fields_of(self.client.get(page("add", Backend)))
        self.assertEqual(data["tenant"], str(self.acme.pk))  # the only one there is to choose
        data |= {
            "name": "new",
            "node_links-TOTAL_FORMS": 1,
            "node_links-0-node": self.node.pk,
            "hostname_links-TOTAL_FORMS": 2,
            "hostname_links-0-name": "app.example.com",
            "hostname_links-1-name": "New.Example.com.",
            "port_mappings-TOTAL_FORMS": 1,
            "port_mappings-0-transport": "tcp",
            "port_mappings-0-public_port": 443,
            "port_mappings-0-default_target": "localhost:8443",
            "port_mappings-0-host_routes-TOTAL_FORMS": 1,
            "port_mappings-0-host_routes-INITIAL_FORMS": 0,
            "port_mappings-0-host_routes-0-pattern": "new.example.com",
            "port_mappings-0-host_routes-0-target": "[::1]:9443",
            "port_claims-TOTAL_FORMS": 1,
            "port_claims-0-transport": "udp",
            "port_claims-0-public_port": 53,
            "port_claims-0-flow_idle_timeout": 60,
            "credential-TOTAL_FORMS": 1,
            "credential-0-kind": "hmac_secret",
            "credential-0-secret": "x" * 40,
        }
        with self.announcements() as callbacks:
            self.assertSaved(self.client.post(page("add", Backend), data))
        self.assertEqual(len(callbacks), 1)  # one announcement
        backend = Backend.objects.get(name="new")
        self.assertEqual(backend.tenant, self.acme)
        names = [link.hostname.name for link in backend.hostname_links.all()]
        self.assertEqual(names, ["app.example.com", "new.example.com"])
        self.assertEqual([link.position for link in backend.hostname_links.all()], [0, 1])
        self.assertEqual(Hostname.objects.get(name="new.example.com").tenant, self.acme)
        self.assertEqual(HostRoute.objects.get(port_mapping__backend=backend).target, "[::1]:9443")
        self.assertEqual(PortClaim.objects.get(backend=backend).flow_idle_timeout, 60)
        self.assertEqual(backend.credential.secret, "x" * 40)

    def test_a_changed_target_is_one_change_of_the_backend(self) -> None:
        before = generations.current()
        with self.announcements() as callbacks:
            self.assertSaved(self.save(self.backend, **{"port_mappings-0-host_routes-0-target": "10.0.0.9:80"}))
        self.assertEqual(len(callbacks), 1)
        self.assertEqual(HostRoute.objects.get(port_mapping__backend=self.backend).target, "10.0.0.9:80")
        changes = Change.objects.filter(generation__gt=before).values_list("kind", "object_id")
        self.assertEqual(list(changes), [(ChangeKind.BACKEND, self.backend.pk)])

    def test_many_edits_in_one_save_are_one_change(self) -> None:
        before = generations.current()
        self.assertSaved(
            self.save(
                self.backend,
                name="renamed",
                weight=7,
                **{
                    "port_mappings-0-default_target": "localhost:1",
                    "port_mappings-0-host_routes-0-target": "localhost:2",
                    "hostname_links-TOTAL_FORMS": 2,
                    "hostname_links-1-name": "more.example.com",
                },
            )
        )
        changes = Change.objects.filter(generation__gt=before, kind=ChangeKind.BACKEND).values_list("object_id")
        self.assertEqual(list(changes), [(self.backend.pk,)])

    def test_history_names_what_changed_in_nested_rows(self) -> None:
        self.save(self.backend, **{"port_mappings-0-host_routes-0-target": "10.0.0.9:80"})
        text = self.client.get(page("history", self.backend)).content.decode()
        self.assertIn("updated app.example.com to 10.0.0.9:80", text)
        self.assertIn("target: localhost:9443 → 10.0.0.9:80", text)

    def test_every_error_stands_at_its_field_and_nothing_is_saved(self) -> None:
        before = generations.current()
        response = self.save(
            self.backend,
            name="",
            weight=0,
            flow_low_water=50,
            socks5_listen="0.0.0.0:1080",
            **{
                "hostname_links-TOTAL_FORMS": 5,
                "hostname_links-1-name": "*.com",
                "hostname_links-2-name": "secluded.example.net",
                "hostname_links-3-name": "APP.example.com",
                "hostname_links-4-name": "fine.example.com",
                "port_mappings-TOTAL_FORMS": 3,
                "port_mappings-1-transport": "tcp",
                "port_mappings-1-public_port": 70000,
                "port_mappings-2-transport": "tcp",
                "port_mappings-2-public_port": 443,
                "port_mappings-0-host_routes-0-target": "nonsense",
                "port_claims-TOTAL_FORMS": 1,
                "port_claims-0-transport": "tcp",
                "port_claims-0-public_port": 53,
                "port_claims-0-flow_idle_timeout": 60,
                "credential-0-kind": "presigned_token",
                "credential-0-secret": "no token",
            },
        )
        self.assertEqual(response.status_code, 200)
        errors = errors_of(response)
        expected = {
            "name": "required",
            "weight": "greater than or equal to 1",
            "hostname_links-1-name": "at least two labels",
            "hostname_links-2-name": "No domain of the tenant covers this name",
            "hostname_links-3-name": "serves this hostname already",
            "port_mappings-1-public_port": "from 1 to 65535",
            "port_mappings-2-public_port": "maps this port already",
            "port_mappings-0-host_routes-0-target": "write host:port",
            "port_claims-0-flow_idle_timeout": "for UDP ports only",
            "credential-0-secret": "three parts",
        }
        for name, words in expected.items():
            with self.subTest(name):
                self.assertIn(words, " ".join(errors.get(name, ["no error"])))
        self.assertContains(response, "Please correct the errors below.")
        self.assertEqual(generations.current(), before)
        self.assertFalse(Hostname.objects.filter(name="fine.example.com").exists())

    def test_errors_of_the_backend_itself(self) -> None:
        Backend.objects.create(tenant=self.acme, name="taken")
        cases: dict[str, tuple[dict[str, Any], str]] = {
            "name": ({"name": "taken"}, "has a backend of this name already"),
            "flow_high_water": ({"flow_low_water": 48}, "must be below"),
            "allowed_outbound_ports": ({"allowed_outbound_ports": "[25]"}, "allow it"),
            "socks5_listen": ({"socks5_listen": "0.0.0.0:1080"}, "Only operators"),
            "site": ({"site": "no site"}, "valid"),
        }
        for field, (changes, words) in cases.items():
            with self.subTest(field):
                response = self.save(self.backend, **changes)
                self.assertEqual(response.status_code, 200)
                self.assertIn(words, " ".join(errors_of(response).get(field, ["no error"])))

    def test_only_nested_errors_are_announced_at_the_top_too(self) -> None:
        response = self.save(self.backend, **{"port_mappings-0-host_routes-0-target": "nonsense"})
        self.assertContains(response, "Please correct the error")

    def test_a_deleted_mapping_makes_room_for_a_new_one(self) -> None:
        self.assertSaved(
            self.save(
                self.backend,
                **{
                    "port_mappings-0-DELETE": "on",
                    "port_mappings-TOTAL_FORMS": 2,
                    "port_mappings-1-transport": "tcp",
                    "port_mappings-1-public_port": 443,
                    "port_mappings-1-default_target": "localhost:7",
                },
            )
        )
        self.assertEqual(PortMapping.objects.get(backend=self.backend).default_target, "localhost:7")

    def test_two_rows_that_swap_their_ports_are_told_to_go_one_by_one(self) -> None:
        PortMapping.objects.create(backend=self.backend, public_port=80, default_target="localhost:80")
        data = self.open(self.backend)
        first, second = data["port_mappings-0-public_port"], data["port_mappings-1-public_port"]
        response = self.client.post(
            page("change", self.backend),
            data | {"port_mappings-0-public_port": second, "port_mappings-1-public_port": first},
        )
        self.assertIn("save, then this", errors_of(response)["port_mappings-0-public_port"][0])

    def test_a_row_that_somebody_else_deleted_is_an_error_not_a_crash(self) -> None:
        data = self.open(self.backend)
        PortMapping.objects.filter(backend=self.backend).delete()
        response = self.client.post(page("change", self.backend), data)
        self.assertEqual(response.status_code, 200)
        self.assertIn("load the page again", str(errors_of(response)))

    def test_rows_that_are_announced_and_not_posted_are_refused_before_they_cost_anything(self) -> None:
        response = self.save(self.backend, **{"port_mappings-TOTAL_FORMS": "99999999"})
        self.assertContains(response, "announces more rows than it holds", status_code=400)
        for spelling in ("0000001000", " 1000", "+1000", "1_000", "\uff11\uff10\uff10\uff10", "1000.0", "many"):
            response = self.save(self.backend, **{"port_mappings-TOTAL_FORMS": spelling})
            self.assertEqual(response.status_code, 400, spelling)

    def test_what_is_posted_is_not_copied_for_each_mapping(self) -> None:
        with mock.patch.object(QueryDict, "__deepcopy__", side_effect=AssertionError("copied")):
            self.assertSaved(self.save(self.backend, weight="7"))
        self.backend.refresh_from_db()
        self.assertEqual(self.backend.weight, 7)

    def test_a_hostname_taken_off_stays_the_tenants(self) -> None:
        self.assertSaved(self.save(self.backend, **{"hostname_links-0-DELETE": "on"}))
        self.assertFalse(self.backend.hostname_links.exists())
        self.assertTrue(Hostname.objects.filter(name="app.example.com", tenant=self.acme).exists())

    def test_the_page_offers_the_tenants_hostnames_and_no_others(self) -> None:
        Hostname.objects.create(tenant=self.acme, name="spare.example.com")
        response = self.client.get(page("change", self.backend))
        self.assertContains(response, '<option value="spare.example.com">')
        self.assertNotContains(response, "secluded.example.net")

    def test_warnings_are_shown_after_a_save(self) -> None:
        token = make_token(hostnames=["else.example.com"], exp=1_600_000_000)
        response = self.client.post(
            page("change", self.backend),
            self.open(self.backend) | {"credential-0-kind": "presigned_token", "credential-0-secret": token},
            follow=True,
        )
        self.assertContains(response, "The token expired on 2020-09-13 12:26 UTC")
        self.assertContains(response, "The token does not claim app.example.com")

    def test_enable_and_disable_count_as_changes(self) -> None:
        address = page("changelist", Backend)
        before = generations.current()
        chosen = {"_selected_action": [self.backend.pk, self.foreign.pk], "action": "disable"}
        response = self.client.post(address, chosen, follow=True)
        self.assertContains(response, "1 backend disabled.")
        self.backend.refresh_from_db()
        self.foreign.refresh_from_db()
        self.assertEqual((self.backend.enabled, self.foreign.enabled), (False, True))
        self.assertEqual(generations.current(), before + 1)

    def test_a_new_node_comes_behind_the_others(self) -> None:
        node = make_node()
        self.assertSaved(self.save(self.backend, **{"node_links-TOTAL_FORMS": 2, "node_links-1-node": node.pk}))
        self.assertEqual([link.position for link in self.backend.node_links.filter(node=node)], [1])


class HealthCheckTest(AdminTestCase):
    def test_a_timeout_of_nothing_is_refused_at_its_field(self) -> None:
        remedy = "Enter 1 second or more; to probe no streams, switch the health check off."
        self.client.force_login(self.editor)
        for name in ("health_check_inactivity_timeout", "health_check_pong_timeout"):
            with self.subTest(name):
                response = self.save(self.backend, **{name: "0"})
                self.assertEqual(response.status_code, 200)
                self.assertEqual(errors_of(response), {name: [remedy]})
