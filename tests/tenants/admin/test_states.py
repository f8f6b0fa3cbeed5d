"""Tests of tenants.admin.states: what is so now beside what is configured, on each page that shows either."""

from __future__ import annotations

from datetime import timedelta

from django.urls import reverse
from django.utils import timezone

from tenants.models import Backend, NexusNode
from tests.support.registry import make_node
from tests.tenants.admin.pages import AdminTestCase, page
from tests.tenants.services.relays.reporting import alive, failed, unreached, up

SENTENCE = "node refused the credentials: signature is invalid; the key is not the node's"


class StatePagesTest(AdminTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.backend.nodes.get()
        self.client.force_login(self.viewer)

    def pages(self) -> dict[str, str]:
        addresses = {
            "overview": reverse("admin:index"),
            "list": page("changelist", Backend),
            "backend": page("change", self.backend),
            "nodes": page("changelist", NexusNode),
            "node": page("change", self.node),
            "tester": reverse("admin:tenants_resolve") + "?host=app.example.com",
        }
        return {name: self.client.get(address).content.decode() for name, address in addresses.items()}

    def test_no_relay_reports(self) -> None:
        found = self.pages()
        for name in ("list", "backend", "nodes", "node"):
            with self.subTest(page=name):
                self.assertIn("no relay reports", found[name])
        self.assertIn("No relay reports: what is served now is not known.", found["overview"])

    def test_down_with_the_sentence_everywhere(self) -> None:
        failed(self.backend, self.node, problem=SENTENCE, next_try=timezone.now() + timedelta(minutes=1), attempts=7)
        found = self.pages()
        for name in ("overview", "list", "backend", "node"):
            with self.subTest(page=name):
                self.assertIn("signature is invalid; the key is not the node", found[name])
        self.assertIn("?state=down", found["overview"])
        self.assertIn("down: 1", found["overview"])
        for part in ("7 failed attempts", "next try", "says relay relay-1"):
            self.assertIn(part, found["backend"])
            self.assertIn(part, found["node"])

    def test_up_has_no_need_of_attention(self) -> None:
        up(self.backend, self.node)
        found = self.pages()
        self.assertNotIn("registry-states", found["overview"])
        for name in ("list", "backend", "nodes", "node"):
            with self.subTest(page=name):
                self.assertNotIn("no relay reports", found[name].replace("No relay", "").partition("<form")[0])

    def test_degraded_by_a_target(self) -> None:
        up(self.backend, self.node)
        unreached(self.backend)
        found = self.pages()
        self.assertIn("Target db:1: timed out", found["list"])
        self.assertIn("not reached", found["backend"])
        self.assertIn("degraded: 1", found["overview"])

    def test_the_list_by_state(self) -> None:
        def listed(state: str) -> list[str]:
            answer = self.client.get(page("changelist", Backend), {"state": state})
            return [backend.name for backend in answer.context["cl"].result_list]

        every = [self.backend.name]
        self.assertEqual([listed(state) for state in ("down", "degraded", "unreported")], [[], [], every])
        failed(self.backend, self.node)
        self.assertEqual([listed(state) for state in ("down", "degraded", "unreported")], [every, [], []])
        up(self.backend, self.node)
        self.assertEqual([listed(state) for state in ("down", "degraded", "unreported")], [[], [], []])
        unreached(self.backend)
        self.assertEqual(listed("degraded"), every)

    def test_others_see_their_own_backends_troubles_alone(self) -> None:
        alive()
        failed(self.backend, self.node, problem=SENTENCE)
        self.client.force_login(self.stranger)
        for address in (reverse("admin:index"), page("changelist", NexusNode), page("change", self.node)):
            answer = self.client.get(address)
            self.assertEqual(answer.status_code, 200)
            self.assertNotContains(answer, "signature is invalid")
            self.assertNotContains(answer, self.backend.name + "</a>")

    def test_a_disabled_node_is_off(self) -> None:
        off = make_node(enabled=False)
        self.assertContains(self.client.get(page("change", off)), "off")
