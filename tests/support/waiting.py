"""Waiting for a condition, with a time-out and words for what did not happen; and cancelling after some turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

POLL = 0.02


def wait_until(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Return when `condition()` is true.

    Raises:
        AssertionError: it was not within `timeout` seconds; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(POLL)


async def async_wait_until(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Return when `condition()` is true, without blocking the event loop.

    Raises:
        AssertionError: it was not within `timeout` seconds; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        await asyncio.sleep(POLL)


async def cancelled_after(turns: int, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` for so many turns of the event loop, and cancel it; give its task, which is done."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return task
