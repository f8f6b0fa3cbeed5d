"""Asyncio tasks that something owns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import structlog


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
