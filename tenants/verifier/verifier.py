"""Answers what nodes ask: with the registry as it stands when the question comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError

from relay.logs import get_logger
from tenants.bridge.database_thread import DatabaseThread
from tenants.verifier.cache import NotKept, Reader, Store
from tenants.verifier.decision import Decision, decide, take_apart

log = get_logger("tenants.verifier")

MOST_READS: Final = 16
"""Questions that are read about in the main thread at once before others are looked for beside it first."""

_T = TypeVar("_T")


class Verifier:
    """Decides about tokens on an event loop, with two connections to the database, each in a thread of its own.

    Every question waits for a look at the generation that began after it came, so a revocation that was committed
    before counts. Questions that come while a look is under way share the next one.

    Args:
        status_uri: where nodes may ask whether this registry answers; empty for nowhere.
    """

    def __init__(self, *, using: str = DEFAULT_DB_ALIAS, status_uri: str = "") -> None:
        self._using = using
        self._thread = DatabaseThread(using)
        self._side_thread = DatabaseThread(using)
        self._store = Store(using)
        self._reading = Reader(self._store, reads=True)
        self._status_uri = status_uri
        self._reads = 0
        self._under_way: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Let the threads and their connections go."""
        self._thread.close()
        self._side_thread.close()

    async def decide(self, text: str) -> Decision:
        """Decide about a token.

        Raises:
            DatabaseError: the registry cannot be asked.
        """
        token = take_apart(text)
        if isinstance(token, Decision):
            return token
        return await self._answer(lambda reader: decide(token, reader, time.time(), self._status_uri))

    async def node(self, certificate: str) -> str | None:
        """Return the name of the node that shows this certificate.

        Raises:
            DatabaseError: the registry cannot be asked.
        """
        return await self._answer(lambda reader: reader.node(certificate))

    async def _answer(self, question: Callable[[Reader], _T]) -> _T:
        """Answer from what is kept, or read it.

        Anybody can make nodes ask for names and keys at random, which are not there at all. So where more than a few
        questions are read about, what is not kept is looked for in a thread of its own first: there it keeps no one
        waiting whose things are known.
        """
        await self.look()
        absent: list[Any] = []
        while True:
            try:
                return question(Reader(self._store, reads=False, absent=absent))
            except NotKept as missing:
                many = self._reads >= MOST_READS
                if many and missing.find is not None and not await self._run(missing.find, self._side_thread):
                    absent.append(missing.key)
                    continue
            self._reads += 1
            try:
                return await self._run(lambda: question(self._reading))  # type: ignore[no-any-return]
            finally:
                self._reads -= 1

    async def look(self) -> None:
        """Forget what is no longer true.

        Raises:
            DatabaseError: the registry cannot be asked.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._look(self._under_way))
            self._next.add_done_callback(_retrieve)
        await asyncio.shield(self._next)

    async def _look(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        # A caller that comes from here on may know of a change that this look does not see.
        self._under_way, self._next = self._next, None
        await self._run(self._store.refresh)

    async def _run(self, function: Any, thread: DatabaseThread | None = None) -> Any:
        thread = thread or self._thread
        try:
            return await thread.submit(function)
        except (OperationalError, InterfaceError):
            # The connection may be one that the server closed long ago; the thread opens another.
            return await thread.submit(function)


def _retrieve(future: asyncio.Future[None]) -> None:
    """Keep asyncio from complaining about a failure that is not awaited any more."""
    if not future.cancelled():
        future.exception()
