"""Tests of relay.network.resolver."""

from __future__ import annotations

import asyncio
import socket
import threading
from unittest import TestCase, mock

from relay.network.resolver import Resolver
from tests.support.relays import on_both_loops
from tests.support.waiting import async_wait_until


class LookupsTests(TestCase):
    @on_both_loops
    async def test_answers_and_failures(self) -> None:
        resolver = Resolver()
        self.assertEqual({address[4][0] for address in await resolver.look_up("127.0.0.1")}, {"127.0.0.1"})
        with self.assertRaises(ValueError):
            await resolver.look_up("a" * 70 + ".example")
        with mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(socket.EAI_NONAME, "unknown")):
            with self.assertRaises(socket.gaierror):
                await resolver.look_up("nobody.example")
        self.assertEqual(resolver._threads, 1, "one thread is enough where nothing waits")
        resolver.close()

    @on_both_loops
    async def test_threads_are_bounded_and_end(self) -> None:
        release, before = threading.Event(), set(threading.enumerate())
        resolver = Resolver(threads=3)
        with mock.patch("socket.getaddrinfo", side_effect=lambda *a, **o: release.wait(60) and []) as asked:
            answers = [resolver.look_up(f"n{number}.example") for number in range(10)]
            answers[0].cancel()
            await async_wait_until(lambda: asked.call_count == 3, "all threads at work")
            mine = set(threading.enumerate()) - before  # threads of other tests may end meanwhile
            self.assertEqual(len(mine), 3)
            release.set()
            self.assertEqual(await asyncio.gather(*answers[1:]), [[]] * 9)
        resolver.close()
        await async_wait_until(lambda: not any(thread.is_alive() for thread in mine), "the threads' end")
        with self.assertRaisesRegex(OSError, "has ended"):  # by nobody, and nobody waits for it in vain
            await resolver.look_up("late.example")
