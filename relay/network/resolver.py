"""Addresses of names from the system's resolver, in threads of their own.

Not in the event loop's: those read what all backends need, and a name whose servers answer nothing holds a thread for
as long as the resolver is patient. uvloop's are so few that some such names hold them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from typing import Any, Final

THREADS: Final = 256
"""Names that are looked up at a time; each tenant has only some of them (`relay.network.names.LOOKUPS_AT_ONCE`)."""

Found = list[tuple[Any, ...]]
"""What `socket.getaddrinfo` returns."""


class Resolver:
    """Looks names up: for the targets of one relay, or for its nodes.

    Threads are started when they are wanted. They are daemons: a resolver that answers nothing does not keep the
    process from ending.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._most = threads
        self._threads = 0
        self._closed = False
        self._idle = threading.Semaphore(0)
        self._wanted: queue.SimpleQueue[tuple[str, asyncio.Future[Found]] | None] = queue.SimpleQueue()

    def look_up(self, host: str) -> asyncio.Future[Found]:
        """Ask for a name's addresses; the future belongs to the running loop.

        It fails as `socket.getaddrinfo` does: with OSError, or with ValueError for what cannot be looked up. After
        `close` it fails at once.
        """
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        if self._closed:
            answer.set_exception(OSError("the relay has ended"))
            return answer
        self._wanted.put((host, answer))
        if not self._idle.acquire(blocking=False) and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._run, name=f"names-{self._threads}", daemon=True).start()
        return answer

    def close(self) -> None:
        """Let the threads end after what they do at the moment."""
        self._closed = True
        self._wanted.put(None)

    def _run(self) -> None:
        while (asked := self._wanted.get()) is not None:
            host, answer = asked
            found: Found = []
            failure: BaseException | None = None
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except BaseException as error:  # it is raised where the answer is awaited
                failure = error
            self._idle.release()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                answer.get_loop().call_soon_threadsafe(_settle, answer, found, failure)
        self._wanted.put(None)  # for the next one


def _settle(answer: asyncio.Future[Found], found: Found, failure: BaseException | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(found)
    else:
        answer.set_exception(failure)
