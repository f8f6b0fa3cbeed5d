"""What does not work at a relay, found out for its reports: sessions that are not up, targets that do not answer."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from relay.config import BackendConfig
from relay.config.targets import parse_targets
from relay.errors import InvalidValue, shorten
from relay.relay import Relay
from relay.sessions.snapshot import UplinkSnapshot
from relay.sessions.usage import FailedDial, UsageBook
from relay.targets.health import TargetStatus
from relay.text import printable
from tenants.models.relay_trouble import RelayTarget, RelayUplink
from tenants.services.relays import reports
from tenants.services.relays.reports import BATCH, ReportedRow

CONNECTING_AFTER: Final = 10.0
"""Seconds after which a first attempt that has no outcome yet is told of."""

MOST_TARGETS: Final = 20
"""Targets of one backend that are told of."""

MOST_SMALL: Final = 2_000
"""Rows that are written in one report because of no more than another attempt; the others come with the next ones."""

DIALS_COUNT_FOR: Final = 3_600.0
"""Seconds for which a failed dial is believed that no other one of the target has followed."""

PROBLEM_LENGTH: Final = 500

_TOKEN: Final = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*")
Key = tuple[int, str]


@dataclass(slots=True)
class _Told:
    """A trouble, and what was written of it.

    Attributes:
        large: what is written as soon as it changes.
        small: what may be written later.
        tried: some of it may be written.
    """

    id: uuid.UUID
    large: tuple[Any, ...] = ()
    small: tuple[Any, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    written: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None
    written_at: float = 0.0
    tried: bool = False


class _Table:
    """The troubles of one kind, by the backend's primary key and what it is about."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._told: dict[Key, _Told] = {}
        self._gone: set[uuid.UUID] = set()

    def get(self, key: Key) -> _Told | None:
        return self._told.get(key)

    def put(self, key: Key, large: tuple[Any, ...], small: tuple[Any, ...], fields: dict[str, Any]) -> None:
        told = self._told.setdefault(key, _Told(uuid.uuid4()))
        told.large, told.small, told.fields = large, small, fields

    def keep(self, keys: set[Key]) -> None:
        """Forget all but these."""
        for key in self._told.keys() - keys:
            told = self._told.pop(key)
            if told.tried:
                self._gone.add(told.id)

    def write(self, relay: int, using: str, *, whole: bool) -> None:
        if whole:
            for told in self._told.values():
                told.written = None
        large, small = [], []
        for key, told in self._told.items():
            if told.written is None or told.written[0] != told.large:
                large.append((key, told))
            elif told.written[1] != told.small:
                small.append((key, told))
        small.sort(key=lambda pair: pair[1].written_at)
        due = [*large, *small[:MOST_SMALL]]
        for start in range(0, len(due), BATCH):
            part = due[start : start + BATCH]
            for _, told in part:
                told.tried = True
            rows = [ReportedRow(told.id, key[0], told.fields) for key, told in part]
            reports.report_rows(self._model, relay, rows, using)
            for _, told in part:
                told.written, told.written_at = (told.large, told.small), time.monotonic()
        but = {told.id for told in self._told.values()} if whole else None
        reports.forget_rows(self._model, relay, using, gone=self._gone, but=but)
        self._gone.clear()


class Troubles:
    """The troubles of one relay. `look` on its loop, `write` in the database's thread, never both at a time."""

    def __init__(self) -> None:
        self._uplinks = _Table(RelayUplink)
        self._targets = _Table(RelayTarget)

    async def look(self, relay: Relay, usage: UsageBook, key_of: Any, each_turn: int) -> None:
        """Find out what does not work.

        Args:
            usage: of the relay.
            key_of: returns the primary key of a backend by its key; None for one that is no row's.
            each_turn: backends that are looked at in one turn of the loop.
        """
        uplinks: set[Key] = set()
        targets: set[Key] = set()
        seen: set[str] = set()
        loop = asyncio.get_running_loop()
        for number, (backend, uplink) in enumerate(relay.iter_statuses()):
            if number % each_turn == each_turn - 1:
                await asyncio.sleep(0)
            pk = key_of(backend.key)
            if pk is None:
                continue
            self._look_at_uplink(pk, backend, uplink, loop.time(), uplinks)
            if backend.key not in seen:
                seen.add(backend.key)
                failed = usage.failed_dials(backend.key, time.time() - DIALS_COUNT_FOR)
                self._look_at_targets(pk, backend, relay.targets(backend.key), failed, targets)
        self._uplinks.keep(uplinks)
        self._targets.keep(targets)

    def write(self, relay: int, using: str, *, whole: bool) -> None:
        """Write down what is new. What is written is noted at once, so that a failure is followed by the rest alone.

        Args:
            relay: primary key of its row.
            whole: all of it, new or not.
        """
        self._uplinks.write(relay, using, whole=whole)
        self._targets.write(relay, using, whole=whole)

    def _look_at_uplink(
        self, pk: int, backend: BackendConfig, uplink: UplinkSnapshot, clock: float, seen: set[Key]
    ) -> None:
        slow = uplink.state == "connecting" and clock - uplink.since >= CONNECTING_AFTER
        if not uplink.problem and not slow:
            return
        key = (pk, uplink.node)
        seen.add(key)
        told = self._uplinks.get(key)
        # While an attempt is under way the last outcome is still the newest that is known.
        state = told.fields["state"] if told is not None and uplink.state == "connecting" else uplink.state
        large = (state, uplink.problem, uplink.since)
        small = (uplink.attempts, uplink.next_try)
        if told is not None and (told.large, told.small) == (large, small):
            return
        wall = time.time() - clock
        fields = {
            "node": uplink.node,
            "state": state,
            "problem": shown_problem(uplink.problem),
            "since": told.fields["since"]
            if told is not None and told.large[2] == uplink.since
            else datetime.fromtimestamp(wall + uplink.since, UTC),
            "attempts": uplink.attempts,
            "next_try": None if uplink.next_try is None else datetime.fromtimestamp(wall + uplink.next_try, UTC),
        }
        self._uplinks.put(key, large, small, fields)

    def _look_at_targets(
        self,
        pk: int,
        backend: BackendConfig,
        statuses: Iterable[TargetStatus],
        failed: Mapping[str, FailedDial],
        seen: set[Key],
    ) -> None:
        down = {status.target: status for status in statuses if not status.up}
        if not down and not failed:
            return
        found, all_fail = failing_targets(backend, down, failed)
        for target, (problem, since) in sorted(found.items())[:MOST_TARGETS]:
            key = (pk, target)
            seen.add(key)
            large = (problem, since, all_fail)
            told = self._targets.get(key)
            if told is None or told.large != large:
                fields = {
                    "target": shorten(target, 500),
                    "problem": shown_problem(problem),
                    "since": datetime.fromtimestamp(since, UTC),
                    "all_fail": all_fail,
                }
                self._targets.put(key, large, (), fields)


def failing_targets(
    backend: BackendConfig, down: Mapping[str, TargetStatus], failed: Mapping[str, FailedDial]
) -> tuple[dict[str, tuple[str, float]], bool]:
    """Return which targets of the backend's routes fail, with the problem and since when, and whether all do.

    Args:
        down: by the target's text, what the health checks found down.
        failed: by the text of a route, what the last user's dial found.
    """
    routes = {text for mapping in backend.routes for text in (mapping.default or "", *mapping.hosts.values())} - {""}
    found: dict[str, tuple[str, float]] = {}
    some_work = False
    for text in routes:
        names = _targets_of(text)
        bad = [name for name in names if name in down]
        found |= {name: (down[name].problem, down[name].since or time.time()) for name in bad}
        if len(bad) == len(names):
            continue
        if dial := failed.get(",".join(names)):
            found.setdefault(",".join(names), (dial.problem, dial.since))
        else:
            some_work = True
    return found, bool(found) and not some_work


def _targets_of(text: str) -> list[str]:
    try:
        return [str(target) for target in parse_targets(text)]
    except InvalidValue:
        return [text]


def shown_problem(problem: str) -> str:
    """Return a problem as those may read it who see the backend: without credentials, and without operators' commands.

    A command's output and the place of a file are the operators' business; members learn that it fails. The words tell
    what it is about, not the credential: that may be another one by now.
    """
    if "attestation command" in problem:
        return "The credential's command gives no token: the relay's log says why; ask an operator."
    if "HMAC secret file" in problem:
        return "The file with the HMAC secret cannot be used: the relay's log says why; ask an operator."
    words = printable(_TOKEN.sub("(a token)", problem)).split()
    return shorten(" ".join(words), PROBLEM_LENGTH)
