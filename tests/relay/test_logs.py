"""Tests of relay.logs."""

from __future__ import annotations

from unittest import mock

from django.test import SimpleTestCase

from relay.logs import MOST_OF_GROUP, QUIET_FOR, Once


class OnceTests(SimpleTestCase):
    def setUp(self) -> None:
        clock = mock.patch("relay.logs.time.monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)
        self.now = 1000.0
        self.once = Once()

    def test_each_kind_is_told_once_in_a_while(self) -> None:
        self.assertEqual([self.once.allows("a"), self.once.allows("a"), self.once.allows("b")], [True, False, True])
        self.now += QUIET_FOR
        self.assertTrue(self.once.allows("a"))

    def test_names_that_users_make_up_do_not_flood_the_log(self) -> None:
        told = sum(self.once.allows(("no route", number), group="hostile") for number in range(10_000))
        self.assertEqual(told, MOST_OF_GROUP)
        self.assertTrue(self.once.allows(("no route", "x"), group="healthy"))
        self.now += QUIET_FOR
        self.assertTrue(self.once.allows(("no route", 9999), group="hostile"))
