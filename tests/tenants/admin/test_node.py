"""Tests of the pages of nodes."""

from __future__ import annotations

from tenants.changes import generations
from tenants.models import Backend, NexusNode
from tests.tenants.admin.pages import AdminTestCase, page


class NodePageTest(AdminTestCase):
    def test_the_list_of_nodes_counts_own_backends_only(self) -> None:
        self.client.force_login(self.viewer)
        node = self.foreign.nodes.get()
        row = self.client.get(page("changelist", NexusNode)).context["cl"].result_list.get(pk=node.pk)
        self.assertEqual(row.used_by, 0)


class QueryTest(AdminTestCase):
    """What an operator has put behind the ? of a node's address may be a credential."""

    def setUp(self) -> None:
        super().setUp()
        self.node.address += "?key=s3cret"
        self.node.save()

    def test_members_neither_see_nor_find_it(self) -> None:
        self.client.force_login(self.viewer)
        for text, found in (("s3cret", False), ("key=", False), ("?", False), (self.node.address[:20], True)):
            answer = self.client.get(page("changelist", NexusNode), {"q": text})
            listed = self.node in answer.context["cl"].result_list
            self.assertEqual(listed, found, text)
        asked = [(NexusNode, f"address__{how}") for how in ("contains", "endswith", "regex", "gt")]
        asked += [(Backend, f"{way}__address__contains") for way in ("nodes", "node_links__node")]
        for model, lookup in asked:
            for text in ("s3cret", "other"):
                answer = self.client.get(page("changelist", model), {lookup: text})
                self.assertNotEqual(answer.status_code, 200, (lookup, text))
        shown = self.node.address.partition("?")[0]
        for address in (page("changelist", NexusNode), page("change", self.node), page("change", self.backend)):
            answer = self.client.get(address)
            self.assertEqual(answer.status_code, 200)
            self.assertNotContains(answer, "s3cret")
        self.assertContains(self.client.get(page("change", self.node)), shown)

    def test_operators_edit_it(self) -> None:
        self.client.force_login(self.operator)
        self.assertNotContains(self.client.get(page("changelist", NexusNode)), "s3cret")
        self.assertContains(self.client.get(page("change", self.node)), "key=s3cret")


class SwitchTest(AdminTestCase):
    def test_it_is_switched_off_and_on_with_one_change_each(self) -> None:
        self.client.force_login(self.operator)
        for action, expected in (("disable", False), ("enable", True)):
            with self.subTest(action=action):
                before = generations.current()
                chosen = {"_selected_action": [self.node.pk], "action": action}
                self.client.post(page("changelist", self.node), chosen)
                self.node.refresh_from_db()
                self.assertIs(self.node.enabled, expected)
                self.assertEqual(generations.current(), before + 1)
