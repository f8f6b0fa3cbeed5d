"""Tests of relay.limits.admission: what one tenant's streams leave to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from unittest import TestCase, mock

from relay.limits.admission import Admission
from relay.limits.quota import ProcessBounds


class _Session:
    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.given_up: list[_Stream] = []

    def give_up(self, stream: _Stream) -> None:
        self.given_up.append(stream)
        stream.queued = 0


class _Stream:
    def __init__(self, session: _Session, queued: int = 0) -> None:
        self.session, self.queued = session, queued

    @property
    def tenant(self) -> str:
        return self.session.tenant

    def give_up(self) -> None:
        self.session.give_up(self)


def answers(admission: Admission, *tenants: str) -> list[bool]:
    """Say for each tenant whether it gets a stream."""

    async def main() -> list[bool]:
        return [not admission.refusal(tenant) for tenant in tenants]

    return asyncio.run(main())


def admission_of(live: Collection[Any], tenants: int = 2, **bounds: int) -> Admission:
    """A process with these streams."""
    return Admission(ProcessBounds(**bounds), live, (), lambda: tenants)


class RoomTests(TestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch("resource.getrlimit", return_value=(100_000, 100_000)))
        self.a, self.b = _Session("a"), _Session("b")

    def test_the_last_places_are_for_those_who_have_few(self) -> None:
        live = [_Stream(self.a) for _ in range(89)]
        self.assertEqual(answers(admission_of(live, max_streams=100), "a", "b"), [True, True])
        live += [_Stream(self.a)]
        self.assertEqual(answers(admission_of(live, max_streams=100), "a", "b"), [False, True])
        live += [_Stream(self.b) for _ in range(10)]
        self.assertEqual(answers(admission_of(live, max_streams=100), "a", "b"), [False, False])

    def test_who_is_alone_may_have_all(self) -> None:
        live = [_Stream(self.a) for _ in range(99)]
        self.assertEqual(answers(admission_of(live, tenants=1, max_streams=100), "a"), [True])

    def test_who_fills_the_memory_makes_way(self) -> None:
        live = [_Stream(self.a, 300), _Stream(self.a, 500), _Stream(self.a, 300), _Stream(self.b, 10)]
        admission = admission_of(live, max_buffered=1000)
        self.assertEqual(answers(admission, "a"), [False])
        self.assertEqual((self.a.given_up, self.b.given_up), ([], []))
        self.assertEqual(answers(admission, "b"), [True])
        self.assertEqual((self.a.given_up, self.b.given_up), ([live[1]], []))
        self.assertEqual(answers(admission, "a", "b"), [True, True])

    def test_who_fills_it_together_makes_way_one_after_the_other(self) -> None:
        c = _Session("c")
        live = [_Stream(self.a, 2000), _Stream(self.b, 3000), _Stream(c, 1)]
        admission = admission_of(live, tenants=3, max_buffered=1000)
        self.assertEqual(answers(admission, "c", "c"), [False, True])
        self.assertEqual((self.b.given_up, self.a.given_up), ([live[1]], [live[0]]))
