"""What a user sees is read once a request, never later than its end, and again wherever it may have changed."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import contextmanager
from typing import Any
from unittest import mock

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from tenants.changes import generations, visibility
from tenants.changes.role import ALL_ROLES, EDIT_ROLES, OWNERS
from tenants.changes.visibility import KeptSights, Sight, kept, seen_by, sight_of
from tenants.models import AuditEntry, Backend, BackendUsage, Membership, NexusNode, Role, SiteRole, Tenant
from tests.support.registry import make_backend, make_node, make_tenant
from tests.tenants.admin.pages import AdminTestCase, page


def leave(user: Any) -> None:
    """Take the user's memberships away as another process does: unseen here."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tenants_membership WHERE user_id = %s", [user.pk])


class SightTest(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        users = get_user_model().objects
        cls.mine, cls.edited, cls.theirs = make_tenant(), make_tenant(), make_tenant()
        for tenant in (cls.mine, cls.edited, cls.theirs):
            make_backend(tenant)
        cls.member = users.create_user("member")
        Membership.objects.create(user=cls.member, tenant=cls.mine, role=Role.OWNER)
        Membership.objects.create(user=cls.member, tenant=cls.edited, role=Role.EDITOR)
        cls.auditor = users.create_user("auditor")
        SiteRole.objects.create(user=cls.auditor, role="auditor")
        Membership.objects.create(user=cls.auditor, tenant=cls.mine, role=Role.OWNER)
        cls.operator = users.create_superuser("operator")
        cls.stranger = users.create_user("stranger")

    def setUp(self) -> None:
        self.user = get_user_model().objects.get(pk=self.member.pk)

    # -- what it says

    def test_of_a_member(self) -> None:
        with self.assertNumQueries(1):
            sight = sight_of(self.user)
        self.assertEqual(dict(sight.roles), {self.mine.pk: "owner", self.edited.pk: "editor"})
        self.assertEqual((sight.operator, sight.auditor, sight.sees_all), (False, False, False))
        self.assertTrue(sight.may_in(self.mine.pk, OWNERS))
        self.assertFalse(sight.may_in(self.edited.pk, OWNERS))
        self.assertTrue(sight.may_in(self.edited.pk, EDIT_ROLES))
        self.assertFalse(sight.may_in(self.theirs.pk, ALL_ROLES))
        self.assertFalse(sight.may_in(None, ALL_ROLES))
        self.assertTrue(sight.may_anywhere(OWNERS))
        self.assertFalse(sight.may_anywhere(frozenset()))
        self.assertCountEqual(sight.tenants(), [self.mine.pk, self.edited.pk])
        self.assertEqual(sight.tenants(OWNERS), [self.mine.pk])

    def test_of_an_auditor_has_no_roles_beside_it(self) -> None:
        sight = sight_of(self.auditor)
        self.assertEqual((sight.sees_all, sight.auditor, dict(sight.roles)), (True, True, {}))
        self.assertFalse(sight.may_in(self.mine.pk, ALL_ROLES) or sight.may_anywhere(ALL_ROLES))

    def test_of_an_operator_costs_no_query(self) -> None:
        with self.assertNumQueries(0):
            sight = sight_of(self.operator)
        self.assertTrue(sight.sees_all and sight.may_in(None, frozenset()) and sight.may_anywhere(frozenset()))

    def test_of_others_is_nothing(self) -> None:
        inactive = get_user_model().objects.get(pk=self.member.pk)
        switched_off = get_user_model().objects.get(pk=self.operator.pk)
        inactive.is_active = switched_off.is_active = False
        for user in (None, AnonymousUser(), inactive, switched_off, self.stranger):
            with self.subTest(user=str(user)):
                sight = sight_of(user)
                self.assertEqual(sight, Sight())
                self.assertFalse(sight.sees_all or sight.may_anywhere(ALL_ROLES))
                for model in (Backend, Tenant, NexusNode, AuditEntry, BackendUsage):
                    self.assertFalse(seen_by(model.objects.all(), user, shared=True).exists())

    def test_roles_can_not_be_written_to(self) -> None:
        with self.assertRaises(TypeError):
            sight_of(self.user).roles[self.theirs.pk] = "owner"
        with self.assertRaises(AttributeError):
            sight_of(self.user).operator = True

    def test_many_tenants_are_looked_up_by_the_database(self) -> None:
        make_node()
        for needed in (ALL_ROLES, EDIT_ROLES, OWNERS, frozenset()):
            few = list(seen_by(Backend.objects.all(), self.user, needed))
            with mock.patch.object(visibility, "MOST_LISTED", 1):
                rows = seen_by(Backend.objects.all(), self.user, needed)
                self.assertIn("SELECT", str(rows.query).partition("WHERE")[2] if needed else "SELECT")
                self.assertEqual(list(rows), few)
        self.assertEqual([row.tenant for row in seen_by(Backend.objects.all(), self.user, OWNERS)], [self.mine])

    # -- how long it is kept

    def test_is_read_once_while_kept_and_each_time_otherwise(self) -> None:
        with self.assertNumQueries(3):
            for _ in range(3):
                sight_of(self.user)
        with kept(), self.assertNumQueries(1):
            for _ in range(3):
                self.assertTrue(sight_of(self.user).roles)

    def test_ends_with_what_keeps_it(self) -> None:
        with kept() as sights:
            sight_of(self.user)
            self.assertEqual(len(sights), 1)
        self.assertEqual(len(sights), 0)
        leave(self.user)
        self.assertFalse(Backend.objects.for_user(self.user).exists())
        with kept():
            self.assertFalse(Backend.objects.for_user(self.user).exists())

    def test_an_inner_one_knows_nothing_of_the_outer_one(self) -> None:
        with kept():
            sight_of(self.user)
            leave(self.user)
            with kept():
                self.assertFalse(sight_of(self.user).roles)

    def test_is_for_one_user_object_only(self) -> None:
        with kept():
            self.assertTrue(sight_of(self.user).roles)
            for other in (self.stranger, AnonymousUser(), get_user_model().objects.create_user("new")):
                self.assertEqual(sight_of(other), Sight())
            # Objects come and go: one that takes the place of another in memory is another still.
            for _ in range(200):
                self.assertEqual(sight_of(get_user_model()(username="passing")), Sight())
            self.assertTrue(sight_of(self.user).roles)

    def test_an_answer_for_another_object_is_not_taken(self) -> None:
        with kept() as sights:
            sights[id(self.stranger)] = (self.user, sight_of(self.user))
            self.assertEqual(sight_of(self.stranger), Sight())

    def test_what_took_the_context_along_reads_for_itself_afterwards(self) -> None:
        with kept():
            self.assertTrue(sight_of(self.user).roles)
            taken = contextvars.copy_context()
        leave(self.user)
        for _ in range(2):
            self.assertFalse(taken.run(sight_of, self.user).roles)

    def test_threads_of_their_own_context_share_nothing(self) -> None:
        found: list[Any] = []
        with kept():
            sight_of(self.user)
            thread = threading.Thread(target=lambda: found.append(visibility._kept.get()))
            thread.start()
            thread.join()
        self.assertEqual(found, [None])

    def test_requests_at_one_time_have_their_own(self) -> None:
        """As under ASGI: tasks of one loop, whose work is done in threads."""
        seen: list[KeptSights] = []

        async def request(user: Any, other: asyncio.Event, mine: asyncio.Event) -> Sight:
            with kept() as sights, mock.patch.object(visibility, "_read", lambda user, using: Sight(user_key=user)):
                seen.append(sights)
                first = await sync_to_async(sight_of, thread_sensitive=False)(user)
                mine.set()
                await other.wait()
                again = await sync_to_async(sight_of, thread_sensitive=False)(user)
                self.assertIs(first, again)
                self.assertEqual(len(sights), 1)
                return again

        async def both() -> list[Sight]:
            one, two = asyncio.Event(), asyncio.Event()
            return await asyncio.gather(request("one", two, one), request("two", one, two))

        self.assertEqual([sight.user_key for sight in asyncio.run(both())], ["one", "two"])
        self.assertIsNot(seen[0], seen[1])

    # -- what makes it be read again

    @contextmanager
    def read_again(self) -> Any:
        """Show that what the block does drops what is kept."""
        with kept():
            self.assertTrue(sight_of(self.user).roles)
            leave(self.user)
            self.assertTrue(sight_of(self.user).roles)
            yield
            self.assertFalse(sight_of(self.user).roles)
            self.assertFalse(Backend.objects.for_user(self.user).exists())

    def test_the_generations_lock(self) -> None:
        """Another writer may have taken the roles while this one waited."""
        with self.read_again(), generations.batch():
            self.assertFalse(sight_of(self.user).roles)

    def test_a_row_lock(self) -> None:
        with self.read_again():
            list(Tenant.objects.select_for_update())

    def test_writes_of_memberships_and_site_roles(self) -> None:
        member = Membership.objects.get(tenant=self.mine, user=self.user)
        ways = {
            "save": lambda: self.set_role(member),
            "update": lambda: Membership.objects.filter(pk=member.pk).update(role=Role.VIEWER),
            "bulk_update": lambda: self.set_role(member, bulk=True),
            "delete": lambda: Membership.objects.filter(pk=member.pk).delete(),
            "delete the tenant": lambda: Tenant.objects.get(pk=self.mine.pk).delete(),
            "site role": lambda: SiteRole.objects.create(user=self.user, role="auditor"),
        }
        for name, write in ways.items():
            with self.subTest(name), self.savepoint(), kept(), generations.batch():
                self.assertTrue(sight_of(self.user).may_in(self.mine.pk, OWNERS))
                write()
                self.assertFalse(sight_of(self.user).may_in(self.mine.pk, OWNERS))

    def test_a_write_that_is_taken_back(self) -> None:
        with kept(), generations.batch():
            with self.assertRaises(ZeroDivisionError), self.savepoint(), generations.batch():
                Membership.objects.create(user=self.user, tenant=self.theirs, role=Role.OWNER)
                self.assertTrue(sight_of(self.user).may_in(self.theirs.pk, OWNERS))
                raise ZeroDivisionError
            self.assertFalse(sight_of(self.user).may_in(self.theirs.pk, OWNERS))

    def set_role(self, member: Membership, bulk: bool = False) -> None:
        member.role = Role.VIEWER
        if bulk:
            Membership.objects.bulk_update([member], ["role"])
        else:
            member.save()

    @contextmanager
    def savepoint(self) -> Any:
        """Take back what is written inside."""
        from django.db import transaction

        with transaction.atomic():
            try:
                yield
            finally:
                transaction.set_rollback(True)


class RequestTest(AdminTestCase):
    def test_a_membership_that_is_taken_ends_with_the_request(self) -> None:
        self.client.force_login(self.editor)
        address = page("changelist", Backend)
        self.assertContains(self.client.get(address), "edge")
        leave(self.editor)
        self.assertNotContains(self.client.get(address), "edge", status_code=403)

    def test_nothing_is_kept_behind_a_request(self) -> None:
        self.client.force_login(self.editor)
        request = self.client.get(page("change", self.backend)).wsgi_request
        self.assertEqual((len(request.sights), request.sights.ended), (0, True))
        self.assertIsNone(visibility._kept.get())

    def test_an_edit_asks_once(self) -> None:
        for user in (self.owner, self.editor):
            self.client.force_login(user)
            data = self.open(self.backend)
            with CaptureQueriesContext(connection) as queries:
                self.assertSaved(self.client.post(page("change", self.backend), {**data, "weight": 7 + user.pk}))
            asked = [each["sql"] for each in queries if 'FROM "tenants_membership"' in each["sql"]]
            self.assertEqual(len(asked), 1, asked)
