"""Nobody sees what is another tenant's: every page and operation, asked in a world with that tenant and in one without.

Every answer must be the same in both worlds, to the letter: then no name, no count and no error tells that the other
tenant's rows exist. The walk is cut by user, so that test processes can share it.
"""

from __future__ import annotations

from unittest import mock, skipUnless

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import QuerySet
from django.test import SimpleTestCase, TestCase
from django.urls import reverse

from tenants.changes.querysets import RegistryQuerySet
from tenants.models import Hostname, Role
from tests.support.isolation.probes import Probe
from tests.support.isolation.rows import LABELS, OTHERS, shown_models, tenants_models
from tests.support.isolation.walk import WalkTestCase, list_of
from tests.support.registry import make_served_backend, make_tenant
from tests.tenants.admin.pages import fields_of, make_user

on_sqlite = skipUnless(connection.vendor == "sqlite", "sets SQLite's sequences")


@on_sqlite
class OwnerIsolationTest(WalkTestCase):
    def test_nothing_tells_that_the_other_tenant_exists(self) -> None:
        self.check("owner")


@on_sqlite
class EditorIsolationTest(WalkTestCase):
    def test_nothing_tells_that_the_other_tenant_exists(self) -> None:
        self.check("editor")


@on_sqlite
class ViewerIsolationTest(WalkTestCase):
    def test_nothing_tells_that_the_other_tenant_exists(self) -> None:
        self.check("viewer")


@on_sqlite
class OutsiderIsolationTest(WalkTestCase):
    def test_nothing_tells_that_the_other_tenant_exists(self) -> None:
        self.check("nobody", "anonymous")


class WalkTest(SimpleTestCase):
    def test_the_walk_has_a_row_of_everything(self) -> None:
        self.assertEqual(
            [model._meta.label for model in tenants_models() if model._meta.label not in LABELS],
            [],
            "give LABELS these and TenantRows what `build` does not know, so that the walk can look for them",
        )


@on_sqlite
class ControlTest(WalkTestCase):
    """The walk fails where it should."""

    def lists(self, *_: object) -> list[Probe]:
        return [Probe("page", "get", reverse("admin:index")), *map(list_of, shown_models())]

    def test_who_may_log_in_passes(self) -> None:
        found = self.walk(self.users, self.lists)
        self.assertEqual(found.leaks, [])
        for name in self.users:
            self.check_sees_its_own(name, found.answers)

    def test_users_who_may_not_log_in_fail_it(self) -> None:
        for locked in ({"is_staff": False}, {"is_active": False}):
            get_user_model().objects.update(**{"is_staff": True, "is_active": True, **locked})
            found = self.walk(self.users, self.lists)
            self.assertEqual(found.leaks, [])
            for name in set(self.users) - {"anonymous"}:
                with self.subTest(name, **locked), self.assertRaisesRegex(AssertionError, name):
                    self.check_sees_its_own(name, found.answers)

    def test_rows_of_the_other_tenant_are_found(self) -> None:
        with mock.patch.object(RegistryQuerySet, "for_user", lambda rows, user: rows.all()):
            self.check_finds("names it")

    def test_counts_of_the_other_tenants_rows_are_found(self) -> None:
        with mock.patch.object(RegistryQuerySet, "count", lambda rows: QuerySet.count(rows.model._base_manager.all())):
            self.check_finds("differs")

    def check_finds(self, what: str) -> None:
        for name in ("owner", "editor", "viewer"):
            leaks = [leak for leak in self.walk([name], self.lists).leaks if f"\n{what}" in leak]
            self.assertGreater(len(leaks), 5, name)


class HostnameErrorTest(TestCase):
    """What may be told: that a name is taken. Never by whom."""

    def test_a_taken_hostname_names_nobody(self) -> None:
        acme, other = make_tenant(slug="acme"), make_tenant(slug=f"{OTHERS.mark}-slug", name=f"{OTHERS.mark} Company")
        backend = make_served_backend(acme, "app.example.com")
        make_served_backend(other, "taken.example.net", name=f"{OTHERS.mark}-backend")
        self.client.force_login(make_user("owner", acme=Role.OWNER))
        address = reverse("admin:tenants_backend_change", args=[backend.pk])
        given = fields_of(self.client.get(address))
        total = int(given["hostname_links-TOTAL_FORMS"])
        given |= {"hostname_links-TOTAL_FORMS": str(total + 1), f"hostname_links-{total}-name": "taken.example.net"}
        answer = self.client.post(address, given)
        self.assertEqual(answer.status_code, 200)
        self.assertContains(answer, "taken.example.net")
        self.assertNotContains(answer, OTHERS.mark)
        self.assertEqual(Hostname.objects.filter(tenant=acme).count(), 1)
