"""An owner finds a change in the history and takes it back, in a real browser."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import Client

from tenants.models import Backend, Role
from tenants.services.audit import journal
from tests.support.browser import require_browser, with_page
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import make_user, page


class BrowserTest(StaticLiveServerTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        require_browser()
        super().setUpClass()

    def test_from_the_history_to_the_revert(self) -> None:
        backend = make_served_backend(make_tenant(slug="acme"), "app.example.com", name="edge")
        owner = make_user("owner", acme=Role.OWNER)
        with journal.acting(user=make_user("editor", acme=Role.EDITOR), address="192.0.2.7"):
            Backend.objects.filter(pk=backend.pk).update(weight=5, site="berlin")
        client = Client()
        client.force_login(owner)
        cookies = {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}

        def steps(browser: Any) -> str:
            browser.goto("/admin/tenants/auditentry/")
            browser.click("text=Export CSV", trial=True)
            browser.goto(page("history", backend))
            browser.click("table a >> nth=0")
            browser.click("text=Revert this")
            browser.wait_for_selector("text=as it was before")
            return str(browser.content())

        self.assertIn("as it was before", with_page(self.live_server_url, cookies, steps))
        backend.refresh_from_db()
        self.assertEqual((backend.weight, backend.site), (1, ""))
