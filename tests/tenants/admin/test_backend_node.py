"""The nodes of a backend on its page."""

from __future__ import annotations

from django.urls import reverse

from tenants.models import Backend, NexusNode
from tests.tenants.admin.pages import AdminTestCase, fields_of, page


class NewNodeTest(AdminTestCase):
    def test_operators_alone_are_offered_to_add_a_node(self) -> None:
        add = reverse("admin:tenants_nexusnode_add")
        for user, offered in ((self.operator, True), (self.owner, False), (self.editor, False)):
            for address in (page("change", self.backend), page("add", Backend)):
                with self.subTest(user=user.username, address=address):
                    self.client.force_login(user)
                    self.assertIs(f'href="{add}?' in self.client.get(address).content.decode(), offered)

    def test_the_pop_up_saves_a_node_and_gives_it_back(self) -> None:
        self.client.force_login(self.operator)
        address = f"{reverse('admin:tenants_nexusnode_add')}?_to_field=id&_popup=1"
        response = self.client.get(address)
        data = fields_of(response) | {"name": "new", "address": "wss://new.example.net/connect"}
        response = self.client.post(address, data)
        self.assertContains(response, "admin/js/popup_response.js")
        self.assertContains(response, str(NexusNode.objects.get(name="new").pk))
