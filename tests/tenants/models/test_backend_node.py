"""Nodes of a backend keep their order."""

from __future__ import annotations

from django.test import TestCase

from tenants.models import (
    BackendNode,
)
from tests.support.registry import make_backend, make_node


class OrderTests(TestCase):
    def test_nodes_and_hostnames_keep_the_order_of_their_file(self) -> None:
        backend = make_backend()
        nodes = [make_node() for _ in range(3)]
        for position, node in enumerate(reversed(nodes)):
            BackendNode.objects.create(backend=backend, node=node, position=position)
        self.assertEqual([link.node for link in backend.node_links.all()], nodes[::-1])
