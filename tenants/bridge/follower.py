"""Follower of the registry: a new `RelayConfig` for every change, for as long as the relay runs.

The generation is polled; a hint (`tenants.bridge.hints`) only makes the next poll come at once. What changed since the
last read is read again and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, ProgrammingError
from django.db.models import Q, QuerySet
from django.utils import timezone

from relay.config import BackendConfig, RelayConfig, Removal
from relay.errors import shorten
from relay.limits.rate_limit import TokenBucket
from relay.logs import Outage, get_logger
from tenants.bridge.database_thread import DatabaseThread
from tenants.bridge.snapshot import Reading, UnreadableBackend, backend_key, backend_pk, log_unreadable, read
from tenants.bridge.transactions import one_moment
from tenants.changes import generations
from tenants.changes.generations import ChangeSet
from tenants.changes.querysets import chunks
from tenants.memory import without_garbage_collection
from tenants.models import Backend, BackendNode

DEFAULT_POLL_INTERVAL: Final = 1.0
"""Seconds between two looks at the generation."""

FULL_RELOAD_INTERVAL: Final = 600.0
"""Seconds after which everything is read again, whatever the generation says."""

SLOW_DATABASE_AFTER: Final = 10.0
"""Seconds after which a database that does not answer is reported."""

LARGE: Final = 1_000
"""Backends from which on they are kept from the interpreter's search for cycles."""

SHARE: Final = 0.25
"""Part of the time that may be spent on following edits: endless edits or hints must not keep the relay from
carrying streams."""

SAVED: Final = 1.0
"""Seconds of such time that are saved up while nothing is edited, so that single edits are followed at once."""

PART: Final = 5_000
"""Backends that are read together where all are read: what is in memory meanwhile is no more than a part's rows."""

log = get_logger("tenants.bridge")


class ConfigFollower:
    """A `relay.service.ConfigSource` that reads the registry.

    The database may go away at any time, also at the start: what was read last stays in force, the log says so once,
    and says once when it is back. A backend that can no longer be read keeps its last configuration.

    Args:
        site: serve only backends of this site, and those of none; None for all.
        poll_interval: seconds between two looks at the generation.
        hints: listen for hints; None for "where settings.REDIS_URL is set".
        using: alias of the database.
        full_reload_interval: seconds after which everything is read again.
    """

    def __init__(
        self,
        *,
        site: str | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        hints: bool | None = None,
        using: str = DEFAULT_DB_ALIAS,
        full_reload_interval: float = FULL_RELOAD_INTERVAL,
    ) -> None:
        self.generation = 0
        self._site = site
        self._poll_interval = poll_interval
        self._hints = bool(getattr(settings, "REDIS_URL", "")) if hints is None else hints
        self._using = using
        self._full_reload_interval = full_reload_interval
        self._backends: dict[str, BackendConfig] = {}
        self._removals: dict[str, Removal] = {}
        self._tenants: dict[str, int] = {}
        self._turns: dict[str, datetime] = {}
        self._told: dict[str, str] = {}
        self._loaded_at: float | None = None
        self._parts = 0
        self._frozen = 0
        self._outage = Outage(
            log, "registry's database is away: the relay goes on with what it has", "registry's database is back"
        )
        self._wake = asyncio.Event()
        self._asked = False
        self._time = TokenBucket(SHARE, SAVED, time.monotonic())

    def wake(self) -> None:
        """Look at the generation now; from the event loop's thread."""
        self._wake.set()

    def reload(self) -> None:
        """Read everything again now; from the event loop's thread."""
        self._asked = True
        self._wake.set()

    async def configs(self) -> AsyncIterator[RelayConfig]:
        """Yield the configuration, and again each time that something that is served has changed."""
        thread = DatabaseThread(self._using)
        listener = None
        if self._hints:
            from tenants.bridge.hints import listen  # with the clients of Redis, which are slow to import

            listener = asyncio.create_task(listen(self.wake), name="generation hints")
        yielded = False
        try:
            while True:
                self._wake.clear()
                begun = time.monotonic()
                changed = await self._look(thread)
                told = changed or (self._loaded_at is not None and not yielded)
                if told:
                    yielded = True
                    yield RelayConfig(
                        MappingProxyType(dict(self._backends)), self.generation, MappingProxyType(dict(self._removals))
                    )
                await asyncio.sleep(self._rest(time.monotonic() - begun))
                if told:
                    continue  # the receiver may have taken its time
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()
        finally:
            thread.close()
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)

    def _pause(self) -> float:
        """Return the seconds until the next look: a credential may have its turn before the poll."""
        if self._outage.lasts or not self._turns:  # a turn that is due cannot be read before the database is back
            return self._poll_interval
        return min(self._poll_interval, max(0.0, (min(self._turns.values()) - timezone.now()).total_seconds()))

    def _rest(self, spent: float) -> float:
        """Return the seconds without a look that are due after one that took, with its receiver, the seconds spent."""
        # Reading everything may take a minute, and no edit causes it again and again.
        self._time.take(min(spent, SAVED), time.monotonic())
        return min(self._time.ready_in(), self._poll_interval)

    async def _look(self, thread: DatabaseThread) -> bool:
        """Read what changed; return whether that changes the configuration."""
        reading = thread.submit(self._read)
        reading.add_done_callback(_look_at_the_exception)
        try:
            while not reading.done() and not self._outage.lasts:
                parts = self._parts
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SLOW_DATABASE_AFTER):
                        await asyncio.shield(reading)
                if not reading.done() and parts == self._parts:
                    self._trouble("it does not answer")
            found = await reading
            self._outage.ends(generation=self.generation)
            return found is not None and self._take(*found)
        except Exception as error:  # a database can fail in many ways; none may end the relay
            self._trouble(_words(error))
            return False

    def _read(self) -> tuple[Reading, int, bool, Callable[[str], bool]] | None:
        """Read what changed since the last time, in the database's thread; None for nothing."""
        asked, self._asked = self._asked, False
        # After an outage it might be another database, restored from a backup.
        due = (
            self._outage.lasts
            or asked
            or self._loaded_at is None
            or time.monotonic() - self._loaded_at >= self._full_reload_interval
        )
        now = timezone.now()
        turned = {backend_pk(key) for key, instant in self._turns.items() if instant <= now}
        if not due and not turned and not self._changes():
            return None
        with one_moment(self._using):
            changes = ChangeSet(generations.current(self._using), reload=True) if due else self._changes()
            # What a site allows bounds all that its relays serve; it hardly ever changes.
            if changes.reload or (changes.sites and self._site is not None):
                return self._read_all(), changes.generation, True, lambda key: True
            backends = changes.backends | turned
            reading = self._select(
                Q(pk__in=backends)
                | Q(tenant_id__in=changes.tenants)
                | Q(pk__in=_backends_at(changes.nodes, self._using))
            )
        keys = {backend_key(pk) for pk in backends}
        return (
            reading,
            changes.generation,
            False,
            lambda key: key in keys or self._tenants.get(key) in changes.tenants,
        )

    def _read_all(self) -> Reading:
        """Read everything, part by part."""
        reading = Reading()
        keys = Backend.objects.using(self._using).order_by("pk").values_list("pk", flat=True)
        # Among a hundred thousand backends each search for cycles would stop the streams for a second or two. None of
        # them is one: the searches that come later pass them by.
        with without_garbage_collection():
            for part in chunks(keys, PART):
                reading.add(self._select(Q(pk__gte=part[0], pk__lte=part[-1])))
                self._parts += 1
            if len(reading.backends) >= max(LARGE, 2 * self._frozen):
                gc.freeze()
                self._frozen = len(reading.backends)
        return reading

    def _changes(self) -> ChangeSet:
        changes = generations.changes_since(self.generation, using=self._using)
        if not changes:
            self.generation = changes.generation
        return changes

    def _select(self, wanted: Q) -> Reading:
        problems: list[UnreadableBackend] = []
        reading = read(self._site, wanted, using=self._using, report=problems.append, known=self._backends)
        for problem in problems:
            if self._told.get(problem.key) != problem.message:
                self._told[problem.key] = problem.message
                log_unreadable(problem)
        for key in reading.backends:
            self._told.pop(key, None)
        return reading

    def _take(self, reading: Reading, generation: int, whole: bool, affected: Callable[[str], bool]) -> bool:
        """Put what was read in place of what it replaces; return whether anything differs."""
        changed = False
        for key in [key for key in self._backends if affected(key)]:
            if key not in reading.backends and key not in reading.unreadable:
                del self._backends[key]
                self._tenants.pop(key, None)
                changed = True
        for key, backend in reading.backends.items():
            if self._backends.get(key) is not backend:
                self._backends[key] = backend
                changed = True
        removals = {key: how for key, how in self._removals.items() if key not in reading.tenants and not affected(key)}
        removals |= reading.removals
        if removals != self._removals:  # how one goes may change while it drains
            self._removals = removals
            changed = True
        self._turns = {key: at for key, at in self._turns.items() if key not in reading.tenants and not affected(key)}
        self._turns |= reading.turns
        self._tenants.update(reading.tenants)
        if whole:
            self._tenants = dict(reading.tenants)
            self._loaded_at = time.monotonic()
        self.generation = generation
        return changed

    def _trouble(self, problem: str) -> None:
        self._outage.begins(problem=problem, generation=self.generation, backends=len(self._backends))


def _look_at_the_exception(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining about a future that is no longer awaited."""
    if not future.cancelled():
        future.exception()


def _words(error: Exception) -> str:
    text = shorten(" ".join(str(error).split()), 200)
    if isinstance(error, ProgrammingError) or "no such table" in text:
        text += " (manage.py migrate makes the tables)"
    return f"{type(error).__name__}: {text}"


def _backends_at(nodes: frozenset[int], using: str) -> QuerySet[Any, Any]:
    links: QuerySet[Any, Any] = BackendNode.objects.using(using).filter(node_id__in=nodes).order_by()
    return links.values("backend_id")
