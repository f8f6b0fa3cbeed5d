"""Changes of users and groups are on record."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.test import TestCase

from tests.tenants.changes.test_recorder import make_user, recorded


class TrackTest(TestCase):
    def test_users(self) -> None:
        with recorded() as found:
            user = make_user("ann")
            user.is_staff = True
            user.save()
            user.set_password("another horse battery")
            user.save()
        self.assertEqual([each.action for each in found], ["created", "updated", "updated"])
        self.assertEqual(found[1].changes, {"is_staff": [False, True]})
        self.assertEqual(found[2].changes, {"password": [{"secret": "not kept"}] * 2})
        self.assertNotIn("sha256", str([each.changes for each in found]))

    def test_groups_of_a_user(self) -> None:
        user, group = make_user("ann"), Group.objects.create(name="night shift")
        with recorded() as found:
            user.groups.add(group)
            user.groups.add(group)
            group.user_set.clear()
        self.assertEqual(
            [each.changes for each in found], [{"groups": [[], ["night shift"]]}, {"users": [["ann"], []]}]
        )
