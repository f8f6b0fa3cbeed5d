"""What browsers are told and shown: policies, and nothing in a page's source that should not be there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import django
import unfold
from django.conf import settings
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import Client, TestCase
from django.urls import reverse

from tenants.models import Membership, NexusNode, Role, Tenant
from tests.nexusadmin.accounts.users import PASSWORD, code_of
from tests.support.browser import require_browser, with_page
from tests.support.processes import ROOT
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import AdminTestCase, make_operator, make_user, page

EVERYBODYS = ("/admin/login/", "/invitations/accept/", "/healthz", "/admin/r/1/1/", "/no-such-page/")


class HeaderTest(TestCase):
    def test_every_answer_has_them(self) -> None:
        for address in EVERYBODYS:
            with self.subTest(address):
                headers = self.client.get(address).headers
                self.assertEqual(headers["X-Frame-Options"], "DENY")
                self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
                self.assertEqual(headers["Referrer-Policy"], "same-origin")
                self.assertEqual(headers["Cross-Origin-Opener-Policy"], "same-origin")
                self.assertEqual(headers["Cross-Origin-Resource-Policy"], "same-origin")
                self.assertIn("private", headers["Cache-Control"])
                self.assertIn("camera=()", headers["Permissions-Policy"])
                policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
                self.assertEqual(policy["default-src"], "'none'")
                self.assertEqual(policy["script-src"], "'self' 'unsafe-eval'")
                for name in ("frame-ancestors", "base-uri", "script-src-attr"):
                    self.assertEqual(policy[name], "'none'")

    def test_no_template_has_a_script_in_it(self) -> None:
        inline = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>|\son[a-z]+\s*=\s*[\"']|javascript:|<style", re.IGNORECASE)
        places = [
            each for folder in ("tenants", "nexusadmin") for each in Path(ROOT, folder).rglob("templates/**/*.html")
        ]
        self.assertGreater(len(places), 8)
        self.assertEqual([str(each) for each in places if inline.search(each.read_text())], [])


class SourceTest(AdminTestCase):
    def test_pages_hold_no_versions_comments_or_traces(self) -> None:
        self.client.force_login(self.operator)
        addresses = [reverse("admin:index"), "/account/sessions/", "/account/second-factor/", *EVERYBODYS]
        addresses += [
            page(action, row) for row in (self.backend, self.editor, self.acme) for action in ("change", "delete")
        ]
        addresses += [page("changelist", model) for model in (Membership, NexusNode, Tenant)]
        never = (
            settings.SECRET_KEY,
            settings.FIELD_ENCRYPTION_KEYS[0],
            str(ROOT),
            django.get_version(),
            f"unfold {getattr(unfold, '__version__', '0.91')}",
            "<!--",
            "Traceback",
            "pbkdf2_sha256$",
            "djdt",
        )
        for address in addresses:
            text = self.client.get(address).content.decode()
            with self.subTest(address):
                self.assertEqual([each for each in never if each in text], [])


class ContentPolicyTest(StaticLiveServerTestCase):
    """Pages work under the policy: `with_page` fails at a violation."""

    @classmethod
    def setUpClass(cls) -> None:
        require_browser()
        super().setUpClass()

    def visit(self, user: Any, steps: Any) -> Any:
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        return with_page(self.live_server_url, {name: client.cookies[name].value}, steps)

    def test_a_violation_is_noticed(self) -> None:
        def steps(browser: Any) -> None:
            browser.goto("/admin/login/")
            browser.evaluate("document.head.appendChild(document.createElement('script')).text = 'window.broken = 1'")
            self.assertIsNone(browser.evaluate("window.broken"))

        with self.assertRaisesRegex(AssertionError, "Content Security Policy"):
            with_page(self.live_server_url, {}, steps)

    def test_the_registrys_pages(self) -> None:
        backend = make_served_backend(make_tenant(slug="acme"), "app.example.com", name="edge")
        make_user("somebody", acme=Role.OWNER)
        operator = make_operator()

        def steps(browser: Any) -> str:
            for address in ("/admin/", page("changelist", backend), page("changelist", Membership)):
                browser.goto(address)
                browser.wait_for_load_state("networkidle")
            browser.click("text=Filters")  # Alpine shows what was hidden
            browser.wait_for_selector("text=Apply Filters")
            browser.goto(page("change", backend))
            browser.locator("#hostname_links-data a.add-row").click()
            browser.wait_for_selector("[name=hostname_links-1-name]")
            browser.goto(page("add", Membership))
            browser.locator(".select2-selection").first.click()  # choices are fetched as they are typed
            browser.fill(".select2-search__field", "acm")
            browser.click(".select2-results__option:has-text('acme')")
            return str(browser.inner_text(".select2-selection__rendered >> nth=0"))

        self.assertIn("acme", self.visit(operator, steps))

    def test_the_pages_around_log_in(self) -> None:
        make_tenant(slug="acme")
        user = make_user("somebody", acme=Role.VIEWER)
        user.set_password(PASSWORD)
        user.save()

        class Device:
            secret = ""

        def steps(browser: Any) -> str:
            def log_in() -> None:
                browser.goto("/admin/login/")
                browser.fill("[name=username]", "somebody")
                browser.fill("[name=password]", PASSWORD)
                browser.click("button[type=submit]")

            log_in()
            browser.wait_for_selector("text=Overview")
            browser.goto("/account/second-factor/")
            browser.fill("[name=password]", PASSWORD)
            browser.click("text=Set up")
            self.assertEqual(browser.locator("#qr svg").count(), 1)
            Device.secret = browser.inner_text("#secret").replace(" ", "")
            browser.fill("[name=code]", code_of(Device))
            browser.click("text=Switch on")
            code = browser.inner_text("#codes li >> nth=0")
            browser.context.clear_cookies()
            log_in()
            browser.fill("[name=code]", code)
            browser.click("button[type=submit]")
            browser.wait_for_selector("text=Overview")
            browser.goto("/account/sessions/")
            return str(browser.inner_text("#sessions"))

        self.assertIn("(this one)", with_page(self.live_server_url, {}, steps))
