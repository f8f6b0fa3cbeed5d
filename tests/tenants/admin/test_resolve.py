"""Tests of the tester's page: members see their own, and only editors dial."""

from __future__ import annotations

import re
import socket
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.models import PortMapping
from tests.support.registry import make_backend
from tests.tenants.admin.pages import AdminTestCase


def plain(answer: Any) -> str:
    """Return a page without what differs from one to the next."""
    text = answer.content.decode()
    for pattern in (r'name="csrfmiddlewaretoken" value="[^"]*"', r'"X-CSRFToken": "[^"]*"', r'nonce="[^"]*"'):
        text = re.sub(pattern, "", text)
    return text


class ResolvePageTests(AdminTestCase):
    def ask(self, user: Any, host: str, port: Any = 443, **more: Any) -> Any:
        self.client.force_login(user)
        return self.client.get(reverse("admin:tenants_resolve"), {"host": host, "port": port, **more})

    def dial(self, user: Any, host: str = "app.example.com") -> Any:
        self.client.force_login(user)
        return self.client.post(reverse("admin:tenants_resolve"), {"host": host, "port": 443, "dial": "1"})

    def test_everybody_of_a_tenant_may_ask(self) -> None:
        for user in (self.owner, self.editor, self.viewer, self.operator):
            answer = self.ask(user, "app.example.com")
            self.assertContains(answer, "would be served by acme/edge")
        self.assertEqual(self.ask(self.nobody, "app.example.com").status_code, 403)
        self.client.logout()
        self.assertEqual(self.client.get(reverse("admin:tenants_resolve")).status_code, 302)

    def test_another_tenants_name_looks_as_nobodys(self) -> None:
        there, missing = (
            plain(self.ask(self.owner, name)) for name in ("secluded.example.net", "zecluded.example.net")
        )
        self.assertEqual(there.replace("secluded", "zecluded"), missing)
        self.assertContains(self.ask(self.operator, "secluded.example.net"), "other/secluded-backend")
        there, missing = (
            plain(self.dial(self.owner, name)) for name in ("secluded.example.net", "zecluded.example.net")
        )
        self.assertEqual(there.replace("secluded", "zecluded"), missing)

    def test_what_is_no_question_is_said(self) -> None:
        for host, port, words in (
            ("app.example.com", "0", "is no port"),
            ("app.example.com", "70000", "out of range"),
            ("app.example.com", "<b>", "is no port"),
            ("a\0b", "443", "holds what no hostname does"),
            ("tcp:53", "443", "names another port"),
        ):
            with self.subTest(host=host, port=port):
                answer = self.ask(self.owner, host, port)
                self.assertContains(answer, words)
                self.assertNotContains(answer, "<b>")
        self.assertContains(self.ask(self.owner, "app.example.com", client_ip="x"), "is no IP address")
        self.assertContains(self.ask(self.owner, "<script>alert(1)</script>"), "&lt;script&gt;")

    def test_only_who_may_edit_dials(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            target = f"127.0.0.1:{server.getsockname()[1]}"
            PortMapping.objects.filter(backend=self.backend).first().host_routes.update(target=target)
            type(self.acme).objects.update(target_networks="127.0.0.0/8")
            for user, may in ((self.owner, True), (self.editor, True), (self.operator, True), (self.viewer, False)):
                with self.subTest(user.username):
                    answer = self.dial(user)
                    self.assertEqual("Dialled from this machine" in plain(answer), may)
                    self.assertEqual("answers in" in plain(answer), may)
                    self.assertEqual("Dial the targets" in plain(answer), may)

    def test_the_policy_holds_for_dials_too(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            target = f"127.0.0.1:{server.getsockname()[1]}"
            type(self.acme).objects.update(target_networks="127.0.0.0/8")
            PortMapping.objects.filter(backend=self.backend).first().host_routes.update(target=target)
            type(self.acme).objects.update(target_networks="192.0.2.0/24")
            self.assertContains(self.dial(self.owner), "does not allow")

    def test_a_constant_number_of_queries(self) -> None:
        def count() -> int:
            self.client.force_login(self.owner)
            with CaptureQueriesContext(connection) as queries:
                answer = self.client.get(address)
            self.assertEqual(answer.status_code, 200)
            return len(queries)

        address = f"{reverse('admin:tenants_resolve')}?host=app.example.com&port=443"
        before = count()
        for number in range(10):
            backend = make_backend(self.acme, name=f"more-{number}")
            backend.nodes.add(self.node)
            backend.hostnames.add(self.backend.hostnames.get())
        self.assertEqual(count(), before)
        self.assertLess(before, 25)
