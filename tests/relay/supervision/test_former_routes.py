"""Tests of relay.supervision.former_routes."""

from __future__ import annotations

from dataclasses import replace
from unittest import TestCase

from relay import Claims
from relay.supervision.former_routes import MOST_FORMER, FormerRoutes
from tests.support.relays import on_both_loops, routes_to
from tests.support.waiting import async_wait_until

ONE, BOTH = Claims(hostnames=("a.example.com",)), Claims(hostnames=("a.example.com", "b.example.com"))
FIRST, SECOND = routes_to("127.0.0.1:1"), routes_to("127.0.0.1:2")
B = (80, "b.example.com", "tcp")


class FormerRoutesTests(TestCase):
    """Each test runs on uvloop and on asyncio."""

    @on_both_loops
    async def test_what_an_edit_removes_has_its_last_routes(self) -> None:
        former = FormerRoutes(BOTH, lambda: None)
        self.assertIsNone(former.find(*B))
        former.edited(ONE, FIRST, 600)
        self.assertIs(former.find(*B), FIRST)
        self.assertIsNone(former.find(80, "a.example.com", "tcp"), "it is claimed")
        self.assertIsNone(former.find(80, "c.example.com", "tcp"), "it never was")
        former.edited(replace(ONE, weight=2), SECOND, 600)
        self.assertIs(former.find(*B), FIRST, "an edit that leaves it out changes nothing")
        former.edited(None, SECOND, 600)
        self.assertIs(former.find(*B), FIRST)
        former.edited(BOTH, SECOND, 600)
        self.assertIsNone(former.find(*B), "it is back")
        former.edited(ONE, SECOND, 600)
        self.assertIs(former.find(*B), SECOND)
        former.stop()
        self.assertIsNone(former.find(*B))

    @on_both_loops
    async def test_by_force(self) -> None:
        former = FormerRoutes(BOTH, lambda: None)
        former.edited(ONE, FIRST, 600)
        former.edited(ONE, FIRST, 0)
        self.assertIsNone(former.find(*B))

    @on_both_loops
    async def test_the_deadline_is_told_of(self) -> None:
        told: list[None] = []
        former = FormerRoutes(BOTH, lambda: told.append(None))
        former.edited(ONE, FIRST, 0.01)
        former.edited(Claims(hostnames=("c.example.com",)), SECOND, 600)
        await async_wait_until(lambda: told, "the first deadline")
        self.assertIsNone(former.find(*B))
        self.assertIs(former.find(80, "a.example.com", "tcp"), SECOND)
        former.stop()

    @on_both_loops
    async def test_edits_without_end_are_not_remembered_without_end(self) -> None:
        former = FormerRoutes(BOTH, lambda: None)
        for weight in range(2, 100):
            former.edited(replace(BOTH, weight=weight), FIRST, 600)
        self.assertEqual(len(former._before), MOST_FORMER)
        former.stop()
