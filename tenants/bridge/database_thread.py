"""One thread with one database connection, for an event loop that must never wait for a database."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections

_T = TypeVar("_T")


class DatabaseThread:
    """A thread that runs functions one after the other, where Django keeps a connection between them.

    It is a daemon: a database that does not answer does not keep the process from ending, as a pool's thread would.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"database-{using}", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Run the function in the thread; the future belongs to the running loop.

        A function that raises loses the connection: the next one gets a new one. One whose future is cancelled before
        its turn is left out.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            if future.done():
                return
            result, failure = None, None
            try:
                result = function()
            except BaseException as error:  # it is raised where the future is awaited
                failure = error
                self._disconnect()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, failure)

        self._work.put(work)
        return future

    def close(self) -> None:
        """Let the thread end after what it does at the moment, and its connection with it."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        self._disconnect()

    def _disconnect(self) -> None:
        with contextlib.suppress(Exception):
            connections[self._using].close()
