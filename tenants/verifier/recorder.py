"""Puts decisions on record, in batches and off the request's path.

What waits when the process dies is lost: a quarter of a second's decisions. Where the database is slower than the
nodes ask, or away, the queue fills. Of each tenant's tokens, and of tokens without an owner, only so many are put on
record, since a tenant with one good token can have nodes ask about it as often as it likes. What is left out is
counted, and the count is put on record.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from django.db import DEFAULT_DB_ALIAS, transaction

from relay.limits.rate_limit import TokenBucket
from relay.logs import Outage, get_logger
from tenants.bridge.database_thread import DatabaseThread
from tenants.changes import entries, row_names
from tenants.services.audit import journal
from tenants.verifier.decision import Decision

PAUSE: Final = 0.25
"""Seconds between two batches."""

MOST_WAITING: Final = 10_000
BATCH: Final = 1_000
MOST_AT_ONCE: Final = 5_000
"""Decisions about one tenant's tokens that are put on record at once, as when a node restarts …"""

MOST_STEADILY: Final = 10.0
"""… and for each second in the long run."""

MOST_UNKNOWN_AT_ONCE: Final = 200
"""The same of tokens that no known key signed: anyone can send those to a node."""

MOST_UNKNOWN_STEADILY: Final = 1.0
TELL: Final = 60.0
"""Seconds between two entries that say how many were left out."""

LAST_BATCH_TIMEOUT: Final = 5.0
"""Seconds that the last batch may take when the process ends."""

ACCEPTED: Final = "token accepted"
REFUSED: Final = "token refused"
LOST: Final = "verifications not recorded"

Owner = tuple[int, str]
"""Key and slug of a tenant."""

log = get_logger("tenants.verifier")


@dataclass(frozen=True, slots=True)
class Verification:
    """A decision, and who asked for it."""

    decision: Decision
    caller: str
    address: str


class Recorder:
    """Takes decisions and writes them to the audit trail.

    Args:
        refused_only: leave out the good ones.
    """

    def __init__(self, *, using: str = DEFAULT_DB_ALIAS, refused_only: bool = False) -> None:
        self._lost: Counter[Owner | None] = Counter()
        self._told = -math.inf
        self._budgets: dict[int | None, TokenBucket] = {}
        self._using = using
        self._refused_only = refused_only
        self._waiting: deque[Verification] = deque()
        self._thread: DatabaseThread | None = None
        self._writer: asyncio.Task[None] | None = None
        self._outage = Outage(
            log, "verifications cannot be put on record", "verifications are put on record again", "warning"
        )

    def add(self, verification: Verification) -> None:
        """Take a decision; from the event loop, and without waiting."""
        if self._refused_only and verification.decision.valid:
            return
        owner = verification.decision.tenant
        if len(self._waiting) < MOST_WAITING and self._budget(owner).spend(1, time.monotonic()):
            self._waiting.append(verification)
        else:
            self._lost[owner] += 1
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="verifier's records")

    def _budget(self, owner: Owner | None) -> TokenBucket:
        """Return how many more of an owner's decisions are put on record."""
        key = None if owner is None else owner[0]
        found = self._budgets.get(key)
        if found is None:
            rate, burst = (
                (MOST_UNKNOWN_STEADILY, MOST_UNKNOWN_AT_ONCE) if key is None else (MOST_STEADILY, MOST_AT_ONCE)
            )
            found = self._budgets[key] = TokenBucket(rate, burst, time.monotonic())
        return found

    async def close(self) -> None:
        """Write what waits, if the database takes it soon."""
        self._told = -math.inf
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_BATCH_TIMEOUT):
                while (self._waiting or self._lost) and not self._outage.lasts:
                    await self._write()
        if self._writer is not None:
            self._writer.cancel()
        if self._thread is not None:
            self._thread.close()

    async def _write_all(self) -> None:
        while self._waiting or self._lost:
            if self._outage.lasts or len(self._waiting) < BATCH:
                await asyncio.sleep(PAUSE)
            await self._write()

    async def _write(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        lost: Counter[Owner | None] = Counter()
        told = self._told
        if self._lost and time.monotonic() - told >= TELL:
            lost, self._lost, self._told = self._lost, lost, time.monotonic()
        if not batch and not lost:
            return
        if self._thread is None:
            self._thread = DatabaseThread(self._using)
        try:
            # Shielded: what was taken is written, also where the process ends meanwhile.
            await asyncio.shield(self._thread.submit(lambda: write(batch, lost, self._using)))
        except Exception as error:  # a database can fail in many ways; none may end the verifier
            if lost:
                self._lost.update(lost)
                self._told = told
            self._waiting.extendleft(reversed(batch))
            self._outage.begins(problem=type(error).__name__)
            return
        self._outage.ends()


def write(batch: list[Verification], lost: Mapping[Owner | None, int], using: str = DEFAULT_DB_ALIAS) -> None:
    """Write decisions to the audit trail, and how many of whose were left out; in the database's thread."""
    with transaction.atomic(using=using):
        for (caller, address), group in groupby(batch, key=lambda each: (each.caller, each.address)):
            with journal.acting(user=None, name=caller, origin=journal.VERIFIER, address=address):
                entries.write([_entry(each.decision) for each in group], using)
        if lost:
            with journal.acting(user=None, name="verifier", origin=journal.VERIFIER, address=""):
                entries.write([_left_out(owner, number) for owner, number in lost.items()], using)


def _left_out(owner: Owner | None, number: int) -> entries.Entry:
    found = entries.Entry(action=LOST, changes={"number": number})
    return found if owner is None else found._replace(tenant_key=owner[0], tenant_slug=owner[1])


def _entry(decision: Decision) -> entries.Entry:
    details = {
        "reason": row_names.clean_text(decision.reason, row_names.TEXT_LENGTH),
        "token": decision.digest,
        "token id": decision.token_id,
        "key": decision.kid,
        "claimed": list(decision.claimed),
    }
    found = entries.Entry(
        action=ACCEPTED if decision.valid else REFUSED,
        object_text=row_names.clean_text(", ".join(decision.claimed), row_names.TEXT_LENGTH),
        changes={name: value for name, value in details.items() if value},
    )
    if decision.tenant is not None:
        tenant_key, tenant_slug = decision.tenant
        found = found._replace(tenant_key=tenant_key, tenant_slug=tenant_slug)
        if decision.backend is not None:
            key, name = decision.backend
            found = found._replace(
                model="tenants.backend",
                object_id=str(key),
                object_text=row_names.clean_text(f"{tenant_slug}/{name}", row_names.TEXT_LENGTH),
            )
    return found
