"""Reports of a relay to the registry: sessions, what does not work, what was carried, which credentials were taken.

It looks at the relay every so often and writes from a thread of its own. The database may be away for as long as it
likes: nothing is lost, nothing piles up, and no stream notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS

from relay.config import BackendConfig, Credential
from relay.errors import shorten
from relay.logs import Outage, get_logger
from relay.relay import Relay
from relay.sessions.snapshot import SessionSnapshot
from relay.sessions.usage import UsageBook, UsageTotals
from relay.tasks import cancel
from tenants.bridge.database_thread import DatabaseThread
from tenants.bridge.reported_session import ReportedSession, is_small_change
from tenants.bridge.snapshot import backend_pk
from tenants.bridge.troubles import Troubles
from tenants.models.relay_process import NAME_LENGTH
from tenants.models.relay_session import RelaySession
from tenants.services.relays import reports
from tenants.services.relays.reports import BATCH, Carried, Process, UsageBatch, Use

DEFAULT_INTERVAL: Final = 15.0
"""Seconds between two reports."""

LIVES: Final = 4
"""Intervals for which a relay counts as alive after its last report; 20 s more for a slow database."""

WHOLE_INTERVAL: Final = 600.0
"""Seconds after which all sessions are reported again: the registry may have been restored from a backup."""

SLOW_DATABASE_AFTER: Final = 10.0
"""Seconds after which a database that does not answer is reported."""

LAST_WORDS: Final = 5.0
"""Seconds for the last report of a relay that stops."""

MOST_PENDING: Final = 200_000
"""Hours of backends that wait for the database; above that, later hours are added to those that wait."""

SLICE: Final = 500
"""Backends or sessions that are looked at in one turn of the loop."""

log = get_logger("tenants.bridge")
_T = TypeVar("_T")
Bucket = tuple[int, datetime]


@dataclass(slots=True)
class _Look:
    """The sessions and changes of one look at the relay; what was written is noted in each `ReportedSession`."""

    sessions: list[tuple[ReportedSession, BackendConfig, SessionSnapshot]] = field(default_factory=list)
    changed: list[tuple[ReportedSession, int, dict[str, Any], Credential | None]] = field(default_factory=list)
    uses: list[tuple[ReportedSession, int, float, datetime, str]] = field(default_factory=list)


class Reporter:
    """The reports of one relay, from before its start until after its stop.

    Args:
        name: of the relay; the host's where empty.
        worker: which of several processes it is, as in ``1/4``.
        site: the relay's.
        interval: seconds between two reports.
        using: alias of the database.

    Attributes:
        usage: what the relay has to be made with.
    """

    def __init__(
        self,
        *,
        name: str = "",
        worker: str = "",
        site: str = "",
        interval: float = DEFAULT_INTERVAL,
        using: str = DEFAULT_DB_ALIAS,
    ) -> None:
        self.usage = UsageBook()
        self._process = Process(
            run=uuid.uuid4(),
            name=shorten(name or socket.gethostname(), NAME_LENGTH),
            worker=worker,
            site=site,
            started_at=datetime.now(UTC),
            lives=interval * LIVES + 20,
        )
        self._interval = interval
        self._using = using
        self._counted: dict[str, UsageTotals] = {}
        self._peaks: dict[str, tuple[datetime, int]] = {}
        self._pending: dict[Bucket, Carried] = {}
        self._sending: list[UsageBatch] = []
        self._numbers = 0
        self._told: dict[int, ReportedSession] = {}  # by the session's number
        self._gone: set[uuid.UUID] = set()
        self._troubles = Troubles()
        self._whole_at = -math.inf
        self._writing: asyncio.Future[None] | None = None
        self._outage = Outage(
            log,
            "the relay's reports do not reach the registry: they are kept, and tried again",
            "the relay's reports reach the registry again",
        )

    async def beside(self, relay: Relay, serving: Coroutine[Any, Any, None]) -> None:
        """Report on the relay while something serves it, and once more at the end.

        Args:
            relay: made with this reporter's `usage`.
            serving: starts and stops the relay.
        """
        thread = DatabaseThread(self._using)
        reporting = asyncio.create_task(self._run(relay, thread), name="reports")
        try:
            await serving
        finally:
            await cancel(reporting)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._end(relay, thread)
            thread.close()

    async def _run(self, relay: Relay, thread: DatabaseThread) -> None:
        while True:
            await self._report(relay, thread)
            await asyncio.sleep(self._interval)

    async def _end(self, relay: Relay, thread: DatabaseThread) -> None:
        await self._report(relay, thread)
        if not self._outage.lasts:
            await self._do(thread, lambda: reports.remove_process(self._process.run, self._using))

    async def _report(self, relay: Relay, thread: DatabaseThread) -> None:
        """Look at the relay and write what is new."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})  # the task that began it was cancelled, and its thread goes on
        try:
            await self._count(relay)
            look = await self._look(relay)
            await self._troubles.look(relay, self.usage, _key_of, SLICE)
        except Exception:  # a fault of ours must not end the reports, and less the relay
            log.exception("the relay's report cannot be made")
            return
        live = {told.id for told, _, _ in look.sessions}
        await self._do(thread, lambda: self._write(look, live))

    # -- looking, on the event loop

    async def _count(self, relay: Relay) -> None:
        """Add what was carried since the last look to its hour."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        known = relay.config.backends
        for number, (key, usage) in enumerate(self.usage):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            totals, before = usage.totals(), self._counted.get(key, UsageTotals())
            peak, told = usage.take_peak(), self._peaks.get(key)
            if told is not None and told[0] == hour and told[1] >= peak:
                peak = 0
            elif peak:
                self._peaks[key] = (hour, peak)
            if totals != before or peak:
                self._counted[key] = totals
                delta = [new - old for new, old in zip(totals, before, strict=True)]
                self._add(_key_of(key), hour, Carried._make([*delta, peak]))
            elif usage.idle and key not in known:
                self.usage.forget(key)
                self._counted.pop(key, None)
                self._peaks.pop(key, None)

    def _add(self, backend: int | None, hour: datetime, carried: Carried) -> None:
        if backend is None:
            return
        bucket = (backend, hour)
        if bucket not in self._pending and len(self._pending) >= MOST_PENDING:
            bucket = next((each for each in reversed(self._pending) if each[0] == backend), bucket)
        self._pending[bucket] = self._pending.get(bucket, Carried()).plus(carried)

    async def _look(self, relay: Relay) -> _Look:
        """Find out which sessions there are, and what is new of them."""
        look = _Look()
        clock, wall = asyncio.get_running_loop().time(), datetime.now(UTC).timestamp()
        for number, (backend, session) in enumerate(relay.sessions()):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            pk = _key_of(backend.key)
            if pk is None or session.state == "opening":
                continue
            told = self._told.get(session.number)
            if told is None:
                since = datetime.fromtimestamp(wall - session.age, UTC)
                told = self._told[session.number] = ReportedSession(uuid.uuid4(), since)
            look.sessions.append((told, backend, session))
            fields = {
                "node": session.node,
                "state": session.state,
                "dialect": session.dialect,
                "up_since": told.up_since,
                "streams": session.streams,
            }
            written = told.written if told.secret is session.credential else None
            if written is None or any(written.fields[name] != value for name, value in fields.items()):
                look.changed.append((told, pk, fields | {"claims": session.claims}, session.credential))
            sent = session.authenticated_at
            if sent is not None and sent != told.used_at:
                at = datetime.fromtimestamp(wall - (clock - sent), UTC)
                look.uses.append((told, pk, sent, at, session.node))
        live = {session.number for _, _, session in look.sessions}
        for number in [number for number in self._told if number not in live]:
            told = self._told.pop(number)
            if told.written is not None:
                self._gone.add(told.id)
        return look

    # -- writing, in the database's thread

    def _write(self, look: _Look, live: set[uuid.UUID]) -> None:
        """Write a look down. What is written is noted at once, so that after a failure only the rest is told again."""
        if self._pending:
            self._batch()
        process, using = self._process, self._using
        relay, is_new = reports.report_process(process, using, self._sending[0] if self._sending else None)
        del self._sending[:1]
        whole = is_new or time.monotonic() - self._whole_at >= WHOLE_INTERVAL
        while self._sending:
            reports.report_process(process, using, self._sending[0])
            del self._sending[0]
        changed = look.changed
        for told, pk, fields, credential in changed:
            told.describe(pk, fields, credential)
        if whole:
            for told, _, _ in look.sessions:
                told.written = None
        states = [told for told, _, _ in look.sessions if told.state is not None and told.written is not told.state]
        for part in _parts(states):
            pairs = [(told.written, told.state) for told in part if told.state is not None]
            reports.report_sessions(relay, [new for old, new in pairs if not is_small_change(old, new)], using)
            reports.report_streams([new for old, new in pairs if is_small_change(old, new)], using)
            for told in part:
                told.written = told.state
        reports.forget_rows(RelaySession, relay, using, gone=self._gone, but=live if whole else None)
        self._gone.clear()
        self._troubles.write(relay, using, whole=whole)
        if whole:
            self._whole_at = time.monotonic()
        name = f"{process.name} {process.worker}".strip()
        for uses in _parts(look.uses):
            found = [Use(pk, at, node, told.fingerprint) for told, pk, _, at, node in uses]
            reports.report_uses(name, found, using)
            for told, _, sent, _, _ in uses:
                told.used_at = sent

    def _batch(self) -> None:
        """Number what is pending: from here on it is not changed, so that it can be tried again."""
        pending, self._pending = self._pending, {}
        for part in _parts(sorted(pending)):
            self._numbers += 1
            self._sending.append(UsageBatch(self._numbers, {bucket: pending[bucket] for bucket in part}))

    # -- the database's troubles

    async def _do(self, thread: DatabaseThread, work: Callable[[], None]) -> None:
        """Run it in the thread and wait for its end, however long that takes: nothing is begun beside it."""
        writing = self._writing = thread.submit(work)
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            try:
                async with asyncio.timeout(SLOW_DATABASE_AFTER):
                    await asyncio.shield(writing)
            except TimeoutError:
                self._outage.begins(problem="it does not answer")
                await asyncio.shield(writing)
        except Exception as error:  # a database can fail in many ways; none may end the relay
            text = shorten(" ".join(str(error).split()), 200)
            self._outage.begins(problem=f"{type(error).__name__}: {text}")
            return
        self._outage.ends()


def _key_of(key: str) -> int | None:
    """Return the primary key of a backend; None for one that is no row's."""
    try:
        return backend_pk(key)
    except ValueError:
        return None


def _parts(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
