"""Puts decisions on record, in batches and off the request's path.

What waits when the process dies is lost: a quarter of a second's decisions. Where the database is slower than the
nodes ask, or away, the queue fills; what does not fit is counted, and the count is put on record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from django.db import DEFAULT_DB_ALIAS, transaction

from relay.logs import get_logger
from tenants.bridge.database_thread import DatabaseThread
from tenants.services import audit, trail
from tenants.verifier.decision import Decision

PAUSE: Final = 0.25
"""Seconds between two batches."""

MOST_WAITING: Final = 10_000
BATCH: Final = 1_000
MOST_UNKNOWN: Final = 50
"""Refused tokens of nobody's in one batch; the others are counted."""

PATIENCE: Final = 5.0
"""Seconds that the last batch may take when the process ends."""

ACCEPTED: Final = "token accepted"
REFUSED: Final = "token refused"
LOST: Final = "verifications not recorded"

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
        self.lost = 0
        self._using = using
        self._refused_only = refused_only
        self._waiting: deque[Verification] = deque()
        self._thread: DatabaseThread | None = None
        self._writer: asyncio.Task[None] | None = None
        self._failing = False

    def add(self, verification: Verification) -> None:
        """Take a decision; from the event loop, and without waiting."""
        if self._refused_only and verification.decision.valid:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            return
        self._waiting.append(verification)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="verifier's records")

    async def close(self) -> None:
        """Write what waits, if the database takes it soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._waiting and not self._failing:
                    await self._write()
        if self._writer is not None:
            self._writer.cancel()
        if self._thread is not None:
            self._thread.close()

    async def _write_all(self) -> None:
        while self._waiting:
            if self._failing or len(self._waiting) < BATCH:
                await asyncio.sleep(PAUSE)
            await self._write()

    async def _write(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        batch = _bounded(taken)
        lost, self.lost = self.lost + len(taken) - len(batch), 0
        if self._thread is None:
            self._thread = DatabaseThread(self._using)
        try:
            # Shielded: what was taken is written, also where the process ends meanwhile.
            await asyncio.shield(self._thread.submit(lambda: write(batch, lost, self._using)))
        except Exception as error:  # a database can fail in many ways; none may end the verifier
            self.lost += lost
            self._waiting.extendleft(reversed(batch))
            if not self._failing:
                self._failing = True
                log.warning("verifications can not be put on record", problem=type(error).__name__)
            return
        if self._failing:
            self._failing = False
            log.warning("verifications are put on record again", lost=lost)


def _bounded(batch: list[Verification]) -> list[Verification]:
    """Leave out most of what nobody's key signed, where there is much of it: anybody can send that to a node."""
    kept, unknown = [], 0
    for each in batch:
        unknown += each.decision.tenant is None
        if each.decision.tenant is not None or unknown <= MOST_UNKNOWN:
            kept.append(each)
    return kept


def write(batch: list[Verification], lost: int, using: str = DEFAULT_DB_ALIAS) -> None:
    """Write decisions to the audit trail; in the database's thread."""
    with transaction.atomic(using=using):
        for (caller, address), group in groupby(batch, key=lambda each: (each.caller, each.address)):
            with audit.acting(user=None, name=caller, origin=audit.VERIFIER, address=address):
                trail.write([_entry(each.decision) for each in group], using)
        if lost:
            with audit.acting(user=None, name="verifier", origin=audit.VERIFIER, address=""):
                audit.record(LOST, changes={"number": lost}, using=using)


def _entry(decision: Decision) -> trail.Entry:
    details = {
        "reason": trail.clean_text(decision.reason, trail.TEXT_LENGTH),
        "token": decision.digest,
        "token id": decision.token_id,
        "key": decision.kid,
        "claimed": list(decision.claimed),
    }
    found = trail.Entry(
        action=ACCEPTED if decision.valid else REFUSED,
        object_text=trail.clean_text(", ".join(decision.claimed), trail.TEXT_LENGTH),
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
                object_text=trail.clean_text(f"{tenant_slug}/{name}", trail.TEXT_LENGTH),
            )
    return found
