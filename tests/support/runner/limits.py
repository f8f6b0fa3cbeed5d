"""Time-outs of tests: an alarm interrupts what hangs, and says where it hung."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import sys
import threading
import traceback
import unittest
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

DEFAULT: Final = 600.0
"""Seconds that a test, or the set-up of its class, may take where it says nothing else. On a quiet machine none takes a
tenth of it; a busy one may take ten times as long."""

AGAIN: Final = 30.0
"""Seconds until a test is interrupted once more that went on, or whose clean-up hangs."""


class TimedOut(SystemExit):
    """A test took longer than it may.

    It is a kind of SystemExit because event loops pass only that one and KeyboardInterrupt on to their caller, and
    unittest records the former.
    """


class FixtureTimedOut(AssertionError):
    """The set-up or tear-down of a class or module took longer than it may; unittest records only `Exception` there."""


def time_limit(seconds: float) -> Callable[[T], T]:
    """Let a test method, or each test of a class, take this many seconds in place of `DEFAULT`."""

    def mark(tested: T) -> T:
        tested.time_limit = seconds  # type: ignore[attr-defined]
        return tested

    return mark


def limit_of(test: Any) -> float:
    """Return the seconds that a test may take: as its method says, else its class, else `DEFAULT`."""
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return float(getattr(method, "time_limit", getattr(test, "time_limit", DEFAULT)))


def start(seconds: float, kind: type[BaseException] = TimedOut) -> None:
    """Raise ``kind`` in the main thread after ``seconds``, and every `AGAIN` seconds from then on, until `stop`."""
    if threading.current_thread() is not threading.main_thread():
        return

    def interrupt(number: int, frame: object) -> None:
        raise kind(f"still running after {seconds:g} s\n{where_it_is()}")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)


def stop() -> None:
    """Take back what `start` has set."""
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def where_it_is() -> str:
    """Return where the tasks of this thread's event loop wait, and the stacks of the other threads."""
    text = io.StringIO()
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        tasks = set()
    for task in tasks:
        text.write(f"Task {task.get_name()}:\n")
        text.writelines(traceback.format_list(traceback.StackSummary.extract(_frames(task))))
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident in frames:
            text.write(f"Thread {thread.name}:\n")
            text.writelines(traceback.format_stack(frames[thread.ident]))
    return text.getvalue()


def _frames(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """Yield where a coroutine of a task waits, then the ones that it waits for; `Task.get_stack` has only the first."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)


@contextlib.contextmanager
def of_fixture() -> Iterator[None]:
    """Interrupt the set-up or tear-down of a class or module after `DEFAULT` seconds."""
    start(DEFAULT, FixtureTimedOut)
    try:
        yield
    finally:
        stop()


class TimedSuite(unittest.TestSuite):
    """A suite whose fixtures of classes and modules have a time-out; those of tests are the result's matter."""

    def _handleClassSetUp(self, test: Any, result: Any) -> None:
        with of_fixture():
            super()._handleClassSetUp(test, result)  # type: ignore[misc]

    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
        with of_fixture():
            super()._tearDownPreviousClass(test, result)  # type: ignore[misc]

    def _handleModuleFixture(self, test: Any, result: Any) -> None:
        with of_fixture():
            super()._handleModuleFixture(test, result)  # type: ignore[misc]

    def _handleModuleTearDown(self, result: Any) -> None:
        with of_fixture():
            super()._handleModuleTearDown(result)  # type: ignore[misc]
