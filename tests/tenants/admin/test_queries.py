"""Pages cost as many queries with fifty rows as with five."""

from __future__ import annotations

from typing import Any
from unittest import mock

import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.admin.base import RegistryAdmin
from tenants.models import (
    Backend,
    BackendHostname,
    BackendNode,
    Hostname,
    HostRoute,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Role,
    Tenant,
)
from tests.support.registry import make_node, make_served_backend, make_tenant
from tests.tenants.admin.pages import AdminTestCase, make_user, page


class QueryTest(AdminTestCase):
    def fill(self, start: int, end: int) -> None:
        """Add rows of every kind, all of them to be seen on the pages."""
        mapping = self.backend.port_mappings.get(public_port=443)
        for number in range(start, end):
            make_served_backend(self.acme, name=f"backend-{number}")
            name = Hostname.objects.create(tenant=self.acme, name=f"host-{number}.example.com")
            BackendHostname.objects.create(backend=self.backend, hostname=name)
            BackendNode.objects.create(backend=self.backend, node=make_node())
            HostRoute.objects.create(port_mapping=mapping, pattern=name.name, target="localhost:1")
            own = PortMapping.objects.create(backend=self.backend, public_port=1000 + number)
            HostRoute.objects.create(port_mapping=own, pattern=name.name, target="localhost:1")
            PortClaim.objects.create(backend=self.backend, public_port=1000 + number)
            user = make_user(f"user-{number}")
            Membership.objects.create(tenant=self.acme, user=user, role=Role.VIEWER)
            Membership.objects.create(tenant=make_tenant(), user=self.editor, role=Role.VIEWER)
            # All backends serve this one too.
            BackendHostname.objects.create(backend=Backend.objects.get(name=f"backend-{number}"), hostname=self.shared)

    def count(self, user: Any, address: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            self.assertEqual(self.clients[user.username].get(address).status_code, 200)
        return len(queries)

    @time_machine.travel("2026-05-04", tick=False)  # a session notes its use once a minute, and pages may take long
    def test_the_number_of_queries_does_not_grow_with_rows(self) -> None:
        self.shared = Hostname.objects.create(tenant=self.acme, name="shared.example.com")
        addresses = [reverse("admin:index")]
        addresses += [page("changelist", model) for model in (Backend, Hostname, NexusNode, Tenant)]
        addresses += [page("change", row) for row in (self.backend, self.shared, self.acme)]
        owners = [page("changelist", Membership)]
        operators = [
            *owners,
            page("delete", self.acme),
            page("changelist", type(self.editor)),
            page("change", self.editor),
        ]
        cases = [(self.editor, address) for address in addresses]
        cases += [(self.viewer, page("change", self.backend)), (self.owner, owners[0])]
        cases += [(self.operator, address) for address in [*addresses, *operators]]
        self.clients = {user.username: Client() for user, _ in cases}
        for user in {user for user, _ in cases}:
            self.clients[user.username].force_login(user)
        self.fill(0, 5)
        # So that there is a second page too: the paginator asks for the keys of a page first.
        with mock.patch.object(RegistryAdmin, "list_per_page", 4):
            for user, address in cases:
                self.clients[user.username].get(address)  # content types and the like are remembered
            few = [self.count(user, address) for user, address in cases]
        self.fill(5, 50)
        for (user, address), before in zip(cases, few, strict=True):
            with self.subTest(user=user.username, address=address):
                self.assertEqual(self.count(user, address), before)
                self.assertLess(before, 40)
