"""Tests of relay.logs."""

from __future__ import annotations

from unittest import mock

from django.test import SimpleTestCase

from relay.logs import LEAST_REMEMBERED, MOST_OF_GROUP, QUIET_FOR, Once, Outage, get_logger


class OnceTests(SimpleTestCase):
    def setUp(self) -> None:
        clock = mock.patch("relay.logs.time.monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)
        self.now = 1000.0
        self.once = Once()

    def test_each_kind_is_told_once_in_a_while(self) -> None:
        told = [self.once.allows(key, group) for key, group in ("ax", "ax", "bx", "ay")]
        self.assertEqual(told, [True, False, True, True])
        self.now += QUIET_FOR
        self.assertTrue(self.once.allows("a", "x"))

    def test_names_that_users_make_up_do_not_flood_the_log(self) -> None:
        told = sum(self.once.allows(("no route", number), group="hostile") for number in range(10_000))
        self.assertEqual(told, MOST_OF_GROUP)
        self.assertTrue(self.once.allows(("no route", "x"), group="healthy"))
        self.now += QUIET_FOR
        self.assertTrue(self.once.allows(("no route", 9999), group="hostile"))

    def test_floods_of_many_groups_make_nothing_be_told_twice(self) -> None:
        self.assertTrue(self.once.allows("slow", "healthy"))
        for number in range(4 * LEAST_REMEMBERED):
            self.once.allows(number % MOST_OF_GROUP, ("hostile", number // MOST_OF_GROUP))
        self.assertFalse(self.once.allows("slow", "healthy"))

    def test_what_is_long_past_is_forgotten(self) -> None:
        for number in range(40 * LEAST_REMEMBERED):
            self.now += 0.1
            self.assertTrue(self.once.allows(number, ("group", number)))
            self.assertLessEqual(len(self.once._told), LEAST_REMEMBERED)
            self.assertLessEqual(len(self.once._groups), LEAST_REMEMBERED)


class OutageTests(SimpleTestCase):
    def test_its_beginning_and_its_end_are_told_once(self) -> None:
        outage = Outage(get_logger("tests.outage"), "it is away", "it is back")
        with self.assertNoLogs("tests.outage"):
            outage.ends()
        with self.assertLogs("tests.outage") as logs:
            for _ in range(3):
                outage.begins(problem="gone")
                self.assertTrue(outage.lasts)
            for _ in range(3):
                outage.ends()
                self.assertFalse(outage.lasts)
            outage.begins()
        told = [(record.levelname, record.getMessage()) for record in logs.records]
        self.assertEqual(told, [("WARNING", "it is away"), ("INFO", "it is back"), ("WARNING", "it is away")])
