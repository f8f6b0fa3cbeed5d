"""Tests of relay.tasks."""

from __future__ import annotations

import asyncio
import threading
from unittest import mock

from django.test import SimpleTestCase

from relay.logs import get_logger
from relay.tasks import Tasks, cancel, in_thread
from tests.support.relays import on_both_loops, recorded_logs


class TasksTests(SimpleTestCase):
    @on_both_loops
    async def test_they_are_kept_until_they_end_and_cancelled_together(self) -> None:
        tasks = Tasks(get_logger("relay.tasks"))
        tasks.spawn(asyncio.sleep(0))
        waiting = tasks.spawn(asyncio.sleep(3600))
        self.assertEqual(len(tasks), 2)
        tasks.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0)
        self.assertTrue(waiting.cancelled())
        self.assertEqual(len(tasks), 0)

    @on_both_loops
    async def test_a_failure_is_told(self) -> None:
        async def broken() -> None:
            raise RuntimeError("broken")

        tasks = Tasks(get_logger("relay.tasks"))
        with recorded_logs() as logs:
            await asyncio.gather(tasks.spawn(broken()), return_exceptions=True)
            await asyncio.sleep(0)
        self.assertEqual(logs.text(), "a session's task failed")

    @on_both_loops
    async def test_cancel_waits_for_the_end(self) -> None:
        ended: list[bool] = []

        async def slow() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                ended.append(True)

        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        await cancel(task)
        await cancel(None)
        self.assertEqual(ended, [True])

    @on_both_loops
    async def test_a_thread_of_its_own_gives_results_and_failures(self) -> None:
        self.assertEqual(await in_thread(lambda: threading.current_thread().name, "mine"), "mine")
        with self.assertRaises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0, "mine")
        release = threading.Event()
        waiting = [in_thread(lambda: release.wait(60), "mine") for _ in range(50)]
        self.assertEqual(await in_thread(lambda: 7, "mine"), 7, "none waits for another")
        waiting[0].cancel()
        release.set()
        self.assertEqual(await asyncio.gather(*waiting[1:]), [True] * 49)

    @on_both_loops
    async def test_where_there_is_no_thread_the_future_says_so(self) -> None:
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            answer = in_thread(lambda: 7, "mine")
        with self.assertRaisesRegex(OSError, "can't start new thread"):
            await answer
