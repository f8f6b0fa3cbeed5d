"""Tests of the pages of nodes."""

from __future__ import annotations

from tenants.changes import generations
from tenants.models import (
    NexusNode,
)
from tests.tenants.admin.pages import AdminTestCase, page


class NodePageTest(AdminTestCase):
    def test_the_list_of_nodes_counts_own_backends_only(self) -> None:
        self.client.force_login(self.viewer)
        node = self.foreign.nodes.get()
        row = self.client.get(page("changelist", NexusNode)).context["cl"].result_list.get(pk=node.pk)
        self.assertEqual(row.used_by, 0)


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
