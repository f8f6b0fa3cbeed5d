"""Tests of a port mapping's own page: how its streams are carried."""

from __future__ import annotations

from typing import Any

from tenants.models import PortMapping
from tests.tenants.admin.pages import AdminTestCase, errors_of, fields_of, page


class PortMappingPageTest(AdminTestCase):
    mapping: PortMapping

    def setUp(self) -> None:
        self.mapping = self.backend.port_mappings.get()
        self.client.force_login(self.editor)

    def save_mapping(self, **changes: Any) -> Any:
        address = page("change", self.mapping)
        return self.client.post(address, {**fields_of(self.client.get(address)), **changes})

    def test_it_is_reached_from_the_backend_and_leads_back(self) -> None:
        self.assertContains(self.client.get(page("change", self.backend)), page("change", self.mapping))
        response = self.save_mapping(proxy_protocol="v2", access_allow="192.0.2.7 2001:db8::/32")
        self.assertRedirects(response, page("change", self.backend))
        self.mapping.refresh_from_db()
        self.assertEqual(
            (self.mapping.proxy_protocol, self.mapping.access_allow), ("v2", "192.0.2.7/32, 2001:db8::/32")
        )
        self.assertContains(self.client.get(page("change", self.backend)), "PROXY protocol, allowed networks")

    def test_it_changes_neither_port_nor_target(self) -> None:
        self.save_mapping(public_port=1, default_target="localhost:1", transport="udp", backend=self.foreign.pk)
        stored = PortMapping.objects.get(pk=self.mapping.pk)
        self.assertEqual(
            (stored.public_port, stored.default_target, stored.transport, stored.backend),
            (443, "localhost:8443", "tcp", self.backend),
        )

    def test_errors_stand_at_their_field_and_nothing_is_saved(self) -> None:
        for name, value, words in (
            ("access_deny", "192.0.2.1/24", "write 192.0.2.0/24"),
            ("access_allow", "office", "neither an address nor a network"),
            ("dial_timeout", "0", "greater than or equal to 1"),
            ("target_health_up_after", "0", "greater than or equal to 1"),
        ):
            with self.subTest(name):
                errors = errors_of(self.save_mapping(**{name: value, "proxy_protocol": "v1"}))
                self.assertIn(words, " ".join(errors[name]))
        self.assertEqual(PortMapping.objects.get(pk=self.mapping.pk).proxy_protocol, "")

    def test_version_1_is_refused_for_udp_on_either_page(self) -> None:
        PortMapping.objects.filter(pk=self.mapping.pk).update(transport="udp")
        errors = errors_of(self.save_mapping(proxy_protocol="v1"))
        self.assertIn("no form for UDP", " ".join(errors["proxy_protocol"]))
        PortMapping.objects.filter(pk=self.mapping.pk).update(transport="tcp", proxy_protocol="v1")
        response = self.save(self.backend, **{"port_mappings-0-transport": "udp"})
        self.assertIn("no form for UDP", str(errors_of(response)))

    def test_viewers_look_only(self) -> None:
        self.client.force_login(self.viewer)
        self.assertEqual(self.client.get(page("change", self.mapping)).status_code, 200)
        self.assertEqual(self.client.post(page("change", self.mapping), {"proxy_protocol": "v2"}).status_code, 403)


class LimitsAndRemovalTest(AdminTestCase):
    def test_editors_limit_a_backend_and_operators_a_tenant(self) -> None:
        self.client.force_login(self.editor)
        self.assertSaved(self.save(self.backend, max_streams=5, upload_rate=1_000_000, removal_seconds=30))
        self.backend.refresh_from_db()
        self.assertEqual(
            (self.backend.max_streams, self.backend.upload_rate, self.backend.removal_seconds), (5, 1_000_000, 30)
        )
        self.assertEqual(self.client.post(page("change", self.acme), {"max_streams": 0}).status_code, 403)
        self.client.force_login(self.operator)
        fields = fields_of(self.client.get(page("change", self.acme)))
        self.assertSaved(self.client.post(page("change", self.acme), {**fields, "max_streams": 7}))
        self.acme.refresh_from_db()
        self.assertEqual(self.acme.max_streams, 7)

    def test_switching_off_says_what_happens_to_live_streams(self) -> None:
        self.client.force_login(self.editor)
        for action, mode in (("disable", "drain"), ("disable_at_once", "kill"), ("disable_at_once", "kill")):
            chosen = {"_selected_action": [self.backend.pk], "action": action}
            response = self.client.post(page("changelist", self.backend), chosen, follow=True)
            self.backend.refresh_from_db()
            self.assertEqual((self.backend.enabled, self.backend.removal_mode), (False, mode))
        self.assertContains(response, "0 backends disabled.")
