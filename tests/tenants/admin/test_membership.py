"""Two owners who remove each other at the same moment: one stays, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.db import connection
from django.test import Client, TransactionTestCase

from tenants.models import Membership, Role
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import make_user, page


class OwnersRaceTest(TransactionTestCase):
    def race(self, ways: list[Any]) -> None:
        barrier = threading.Barrier(len(ways))

        def run(way: Any) -> None:
            try:
                barrier.wait()
                way()
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(way,)) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_one_stays(self) -> None:
        log = logging.getLogger("django.request")
        level = log.level
        log.setLevel(logging.CRITICAL)
        self.addCleanup(log.setLevel, level)
        for number, action in enumerate(["delete", "change", "both", "list"] * 2):
            slug = f"acme-{number}"
            acme = make_tenant(slug=slug)
            users = [make_user(f"{name}-{number}", **{slug: Role.OWNER}) for name in ("one", "two")]
            ways = []
            for user, other in (users, users[::-1]):
                client = Client()
                client.force_login(user)
                row = Membership.objects.get(user=other)
                way = action if action != "both" else ("delete" if user is users[0] else "change")
                ways.append(self.way(client, row, way))
            self.race(ways)
            with self.subTest(action=action):
                self.assertEqual(Membership.objects.filter(tenant=acme, role=Role.OWNER).count(), 1)

    @staticmethod
    def way(client: Client, row: Membership, way: str) -> Any:
        if way == "delete":
            return lambda: client.post(page("delete", row), {"post": "yes"})
        if way == "change":
            return lambda: client.post(page("change", row), {"role": "viewer"})
        chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        return lambda: client.post(page("changelist", row), chosen)
