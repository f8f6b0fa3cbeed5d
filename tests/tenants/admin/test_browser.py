"""A user edits a backend through the page, in a real browser."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection
from django.test import Client

from tenants.changes import generations
from tenants.changes.actor import acting
from tenants.models import HostRoute, PortMapping, Role
from tests.support.browser import require_browser, with_page
from tests.support.registry import make_domain, make_served_backend, make_tenant
from tests.tenants.admin.pages import SECRET, make_operator, make_user, page


class BrowserTest(StaticLiveServerTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        require_browser()
        super().setUpClass()

    def setUp(self) -> None:
        self.backend = make_served_backend(make_tenant(slug="acme"), "app.example.com", name="edge")
        make_domain(self.backend.tenant, "example.com")
        self.user = make_user("editor", acme=Role.EDITOR)

    def visit(self, steps: Any) -> Any:
        client = Client()
        client.force_login(self.user)
        cookies = {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}
        return with_page(self.live_server_url, cookies, steps)

    def test_a_target_is_edited(self) -> None:
        before = generations.current()

        def steps(browser: Any) -> str:
            browser.goto(page("changelist", self.backend))
            browser.click("text=edge")
            browser.fill("[name=port_mappings-0-default_target]", "127.0.0.1:9999")
            browser.click("button[name=_save]")
            browser.wait_for_url("**/admin/tenants/backend/")
            return str(browser.content())

        text = self.visit(steps)
        self.assertIn("was changed successfully", text)
        self.assertEqual(PortMapping.objects.get().default_target, "127.0.0.1:9999")
        self.assertEqual(generations.current(), before + 1)

    def test_what_others_changed_and_a_secret_that_was_lost_are_both_seen(self) -> None:
        def edit() -> None:
            with acting(name="ann"):
                self.backend.weight = 50
                self.backend.save()
            connection.close()

        def steps(browser: Any) -> tuple[str, str]:
            browser.goto(page("change", self.backend))
            browser.click("summary:has-text('Next one, beside the stored one')")
            browser.fill("[name=credential-0-next_secret]", SECRET)
            with ThreadPoolExecutor() as pool:
                pool.submit(edit).result()
            browser.click("button[name=_save]")
            told = str(browser.locator(".registry-changes").inner_text())
            browser.wait_for_selector("[name=credential-0-next_secret]", state="visible")
            return told, str(browser.input_value("[name=weight]"))

        told, weight = self.visit(steps)
        self.assertIn("ann updated the backend acme/edge (weight: 1 → 50)", told)
        self.assertEqual(weight, "50")

    def test_rows_are_added_removed_and_mended_after_an_error(self) -> None:
        def steps(browser: Any) -> str:
            browser.goto(page("change", self.backend))
            hostnames = browser.locator("#hostname_links-data")
            for number, name in enumerate(("one.example.com", "*.com", "three.example.com"), start=1):
                hostnames.locator("a.add-row").click()
                browser.fill(f"[name=hostname_links-{number}-name]", name)
            browser.locator("#port_mappings-data > tfoot a.add-row, #port_mappings-group a.add-row").last.click()
            browser.fill("[name=port_mappings-1-public_port]", "8080")
            browser.locator("#port_mappings-1-host_routes-data a.add-row").click()
            browser.fill("[name=port_mappings-1-host_routes-0-pattern]", "one.example.com")
            browser.fill("[name=port_mappings-1-host_routes-0-target]", "127.0.0.1:81")
            browser.fill("[name=credential-0-secret]", SECRET)
            browser.click("button[name=_continue]")
            browser.wait_for_selector("text=at least two labels")
            refused = str(browser.content())
            self.assertEqual(browser.input_value("[name=credential-0-secret]"), "")
            # The first of the new rows goes; what was typed into those behind it stays.
            browser.fill("[name=hostname_links-2-name]", "two.example.com")
            hostnames.locator(".form-group:not(.empty-form)").nth(1).locator(".delete-template").click()
            self.assertEqual(browser.input_value("[name=hostname_links-1-name]"), "two.example.com")
            browser.fill("[name=credential-0-secret]", SECRET)
            browser.click("button[name=_save]")
            browser.wait_for_url("**/admin/tenants/backend/")
            return refused

        refused = self.visit(steps)
        self.assertNotIn(SECRET, refused)
        names = [link.hostname.name for link in self.backend.hostname_links.select_related("hostname")]
        self.assertEqual(names, ["app.example.com", "two.example.com", "three.example.com"])
        route = HostRoute.objects.get(port_mapping__public_port=8080)
        self.assertEqual((route.pattern, route.target), ("one.example.com", "127.0.0.1:81"))
        self.backend.credential.refresh_from_db()
        self.assertEqual(self.backend.credential.secret, SECRET)

    def test_an_operator_adds_a_node_beside_its_choice(self) -> None:
        self.user = make_operator()

        def steps(browser: Any) -> None:
            browser.goto(page("change", self.backend))
            browser.locator("#node_links-group a.add-row").click()
            browser.click("[data-id=related-widget-wrapper-node_links-1-node] [x-ref]")
            with browser.expect_popup() as opened:
                browser.click("#add_id_node_links-1-node")
            opened.value.fill("[name=name]", "new")
            opened.value.fill("[name=address]", "wss://new.example.net/connect")
            opened.value.click("[name=_save]")
            browser.wait_for_function(
                "document.querySelector('[name=node_links-1-node]').selectedOptions[0].text == 'new'"
            )
            browser.click("button[name=_save]")
            browser.wait_for_url("**/admin/tenants/backend/")

        self.visit(steps)
        self.assertEqual([link.node.name for link in self.backend.node_links.select_related("node")][1:], ["new"])
