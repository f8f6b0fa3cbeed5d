"""Waiting for a condition, with a time-out and words for what did not happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

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
