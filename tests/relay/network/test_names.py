"""Tests of relay.network.names: what is asked, what serves on, who waits for whom, and the order of addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from relay.network.names import Names, interleave
from relay.timings import Timings
from tests.relay.targets.test_dialing import found
from tests.support.relays import on_both_loops, recorded_logs
from tests.support.waiting import async_wait_until

AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
HOST = "app.example"


class Answers:
    """A resolver that gives what it is told, name by name.

    Attributes:
        now: what a name gets; names that are not here get no answer until `release`.
        asked: the names that were asked for.
    """

    def __init__(self, **now: Any) -> None:
        self.now: dict[str, Any] = now
        self.asked: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, host: str) -> list[Any]:
        self.asked.append(host)
        if host not in self.now:
            await self.release.wait()
        answer = self.now.get(host, AGAIN)
        if isinstance(answer, Exception):
            raise answer
        return found(*answer)


class LastAnswerTests(TestCase):
    @contextlib.asynccontextmanager
    async def asked_once(self, **times: Any) -> AsyncIterator[tuple[Names, Answers]]:
        """Names that know `HOST`, whose answer is no longer fresh."""
        answers = Answers()
        answers.now[HOST] = ["192.0.2.1"]
        names = Names(answers, Timings(**({"resolved_for": 0.0} | times)))
        with recorded_logs() as self.log:
            self.assertEqual(await self.addresses(names), ["192.0.2.1"])
            yield names, answers
        answers.release.set()
        await async_wait_until(lambda: not names._lookups, "the look-ups' end")

    async def addresses(self, names: Names) -> list[str]:
        return [address for _, address in await names.resolve(HOST)]

    @on_both_loops
    async def test_it_serves_on_while_the_resolver_fails(self) -> None:
        async with self.asked_once() as (names, answers):
            answers.now[HOST] = AGAIN
            for _ in range(3):
                self.assertEqual(await self.addresses(names), ["192.0.2.1"])
            self.assertEqual(len(answers.asked), 4)
            self.assertEqual(self.log.text().count("its last answer serves on: Temporary failure"), 1)
            answers.now[HOST] = ["192.0.2.2"]
            self.assertEqual(await self.addresses(names), ["192.0.2.2"])

    @on_both_loops
    async def test_a_resolver_that_fails_is_not_asked_for_each_dial(self) -> None:
        async with self.asked_once(resolved_for=60.0) as (names, answers):
            answers.now[HOST] = AGAIN
            names._resolved[HOST].fresh_until = 0.0
            for _ in range(3):
                self.assertEqual(await self.addresses(names), ["192.0.2.1"])
            self.assertEqual(len(answers.asked), 2)

    @on_both_loops
    async def test_not_for_ever(self) -> None:
        async with self.asked_once() as (names, answers):
            answers.now[HOST] = AGAIN
            self.assertEqual(await self.addresses(names), ["192.0.2.1"])
            names._resolved[HOST].good_until = 0.0
            with self.assertRaises(socket.gaierror):
                await self.addresses(names)

    @on_both_loops
    async def test_never_for_a_name_that_is_gone(self) -> None:
        async with self.asked_once() as (names, answers):
            for answer in (UNKNOWN, AGAIN):
                answers.now[HOST] = answer
                with self.assertRaises(socket.gaierror):
                    await self.addresses(names)

    @on_both_loops
    async def test_it_serves_on_while_the_resolver_hangs(self) -> None:
        async with self.asked_once(lookup_slow=0.01) as (names, answers):
            del answers.now[HOST]
            for _ in range(3):
                self.assertEqual(await self.addresses(names), ["192.0.2.1"])
            self.assertEqual(len(answers.asked), 2, "one look-up at a time")
            self.assertIn("no prompt answer", self.log.text())


class PlacesTests(TestCase):
    @on_both_loops
    async def test_dead_names_hold_up_no_living_one(self) -> None:
        answers = Answers(alive=["192.0.2.1"], other=["192.0.2.2"])
        names = Names(answers, Timings(lookup_slow=0.01), at_once=2, slow_at_once=3)
        dead = [asyncio.create_task(names.resolve(f"dead-{number}")) for number in range(3)]
        await async_wait_until(lambda: len(names._slow_names) == 3, "look-ups that count as slow")
        await async_wait_until(lambda: names._slow.locked() and not names._prompt.locked(), "places that are free")
        self.assertEqual(await names.resolve("alive"), [(socket.AF_INET, "192.0.2.1")])
        # More of them share the places that they have; once they are known to be slow they take no other.
        dead += [asyncio.create_task(names.resolve(f"dead-{number}")) for number in range(3, 4)]
        await async_wait_until(lambda: len(answers.asked) == 5, "one more dead name")
        self.assertEqual(await names.resolve("other"), [(socket.AF_INET, "192.0.2.2")])
        answers.release.set()
        self.assertEqual(
            {type(each) for each in await asyncio.gather(*dead, return_exceptions=True)}, {socket.gaierror}
        )
        self.assertEqual((names._prompt._value, names._slow._value), (2, 3), "each place came back")

    @on_both_loops
    async def test_a_name_that_was_slow_is_asked_among_the_slow_until_it_is_prompt(self) -> None:
        answers = Answers()
        names = Names(answers, Timings(lookup_slow=0.01, resolved_for=0.0), at_once=1, slow_at_once=1)
        first = asyncio.create_task(names.resolve(HOST))
        await async_wait_until(names._slow.locked, "a slow look-up")
        answers.release.set()
        with self.assertRaises(socket.gaierror):
            await first
        answers.release.clear()
        again = asyncio.create_task(names.resolve(HOST))
        await async_wait_until(lambda: len(answers.asked) == 2, "the next look-up")
        self.assertEqual((names._prompt.locked(), names._slow.locked()), (False, True))
        answers.release.set()
        await asyncio.gather(again, return_exceptions=True)
        names._timings = Timings(resolved_for=0.0)
        answers.now[HOST] = ["192.0.2.1"]
        await names.resolve(HOST)
        self.assertEqual(names._slow_names, {})

    @on_both_loops
    async def test_literals_and_names_answered_a_moment_ago_ask_no_resolver(self) -> None:
        answers = Answers(**{HOST: ["192.0.2.1"]})
        names = Names(answers)
        await names.resolve("192.0.2.9")
        await names.resolve("2001:db8::1")
        self.assertEqual(answers.asked, [])
        for _ in range(3):
            await names.resolve(HOST)
        self.assertEqual(answers.asked, [HOST])


class OrderTests(TestCase):
    @on_both_loops
    async def test_an_address_that_served_nothing_comes_last(self) -> None:
        names = Names(Answers(**{HOST: ["192.0.2.1", "2001:db8::1", "192.0.2.2"]}))
        first, *others = await names.resolve(HOST)
        names.defer(HOST, first)
        self.assertEqual(await names.resolve(HOST), [*others, first])
        names.defer(HOST, (socket.AF_INET, "192.0.2.77"))
        names.prefer(HOST, first)
        self.assertEqual((await names.resolve(HOST))[0], first)


ADDRESSES = st.lists(
    st.tuples(st.sampled_from([int(socket.AF_INET), int(socket.AF_INET6)]), st.text("abcdef", min_size=1)), unique=True
)


class InterleaveTests(TestCase):
    @given(ADDRESSES)
    def test_families_take_turns(self, addresses: list[tuple[int, str]]) -> None:
        result = interleave(addresses)
        self.assertCountEqual(result, addresses)
        self.assertEqual(result[:1], addresses[:1])
        for family in {family for family, _ in addresses}:
            kept = [address for address in addresses if address[0] == family]
            self.assertEqual([address for address in result if address[0] == family], kept)
        # Two neighbours of one family: from there on there is no other.
        for place in range(1, len(result)):
            if result[place - 1][0] == result[place][0]:
                self.assertEqual({family for family, _ in result[place:]}, {result[place][0]})
        self.assertEqual(interleave(result), result)
