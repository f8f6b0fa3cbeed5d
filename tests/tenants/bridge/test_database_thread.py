"""One thread with one connection: what is done in it, and what no more."""

from __future__ import annotations

import asyncio
import threading

from django.test import SimpleTestCase

from tenants.bridge.database_thread import DatabaseThread


class DatabaseThreadTest(SimpleTestCase):
    def test_what_nobody_waits_for_is_not_done(self) -> None:
        async def work() -> list[int]:
            thread, stop = DatabaseThread("default"), threading.Event()
            done: list[int] = []
            first = thread.submit(stop.wait)
            second, third = (thread.submit(lambda number=number: done.append(number)) for number in (2, 3))
            second.cancel()
            stop.set()
            await asyncio.gather(first, third)
            thread.close()
            return done

        self.assertEqual(asyncio.run(work()), [3])
