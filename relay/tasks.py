"""Asyncio tasks that something owns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

_T = TypeVar("_T")


class Tasks:
    """The tasks of one session: kept until they end, cancelled together.

    Args:
        log: is told of a task that failed.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Begin a task and keep it."""
        task = asyncio.ensure_future(work)
        self.keep(task)
        return task

    def keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task that runs."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel all that still run; do not wait for their ends."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a session's task failed", exc_info=error)


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def in_thread(work: Callable[[], _T], name: str) -> asyncio.Future[_T]:
    """Run what may block in a thread of its own, and return its result's future, which belongs to the running loop.

    Not one of the event loop's threads: these are few, and what blocks for one backend holds up all. It does not keep
    the process from ending. How many there are is for the caller to bound.

    Args:
        name: of the thread.

    The future fails as ``work`` does, and with OSError where there is no thread for it.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not answer.done():
            settled()
            if not answer.cancelled():
                answer.exception()  # it may be that nothing waits any more

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # it is raised where the answer is awaited
            failure = error
            settled = lambda: answer.set_exception(failure)  # noqa: E731
        else:
            settled = lambda: answer.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, settled)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:  # the system gives no more of them
        answer.set_exception(OSError(f"no thread for it: {error}"))
        answer.exception()
    return answer
