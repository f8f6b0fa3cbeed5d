"""The registry's generation: every change of a routed row is numbered, in the order in which it becomes visible.

A writer takes the lock of the one counter row before it touches any registry row and holds it until it commits.
So generation N is visible only when all smaller ones are, there are no gaps (a rolled-back number is used again), and
two writers cannot wait for each other. `RegistryModel` and its manager do this for every path by which Django writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Max
from django.utils import timezone

from tenants.changes import visibility
from tenants.changes.bulk_insert import MANY, write_values
from tenants.changes.change_log import Change, ChangeAction, ChangeKind, GenerationCounter
from tenants.changes.recorder import ChangeRecorder
from tenants.changes.signals import generation_committed

COUNTER_PK = 1
KEEP = 20_000  # changes kept at least, for readers that were away
PRUNE_EVERY = 2_000  # generations between two automatic prunings
CHANGES_LIMIT = 5_000  # changes in one ChangeSet; a reader that is further behind reads everything again


class Root(NamedTuple):
    """What a changed row belongs to."""

    kind: ChangeKind
    object_id: int


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What changed after a generation.

    Attributes:
        generation: up to here; ask for what came since this number next.
        reload: the log does not reach back far enough (or the database is another one): read everything again. The
            sets are empty then.
        tenants, nodes, backends, sites: ids of what changed, once each, deleted ones too.
    """

    generation: int
    reload: bool = False
    tenants: frozenset[int] = frozenset()
    nodes: frozenset[int] = frozenset()
    backends: frozenset[int] = frozenset()
    sites: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.reload or self.tenants or self.nodes or self.backends or self.sites)


class Batch:
    """The changes that one transaction has recorded so far; each root is written once, when the batch ends.

    So are its entries of the audit trail.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.recorder = ChangeRecorder(using)
        self.actions: dict[Root, ChangeAction] = {}
        self.deleting = 0
        self.checked = 0  # within a bulk_update(), whose rows are checked already

    def add(self, roots: Iterable[Root], action: ChangeAction = ChangeAction.UPDATED) -> None:
        """Note that the roots changed; the last word on a root is what is recorded, but "created" stays."""
        for root in roots:
            if action is ChangeAction.UPDATED and root in self.actions:
                continue
            self.actions[root] = action


_open_batches: WeakKeyDictionary[BaseDatabaseWrapper, Batch] = WeakKeyDictionary()
"""By connection, so by thread."""


@contextmanager
def batch(using: str = DEFAULT_DB_ALIAS) -> Iterator[Batch]:
    """Collect the changes of everything written inside, in one transaction that holds the counter's lock.

    Batches nest: an inner one joins the outer, and the outermost records every root once, in a constant number of
    queries. Wrap whatever writes many rows (an import) in one.
    """
    connection = connections[using]
    current_batch = _open_batches.get(connection)
    # A savepoint at the outermost, so that a refused row does not spoil the caller's transaction.
    with transaction.atomic(using=using, savepoint=current_batch is None):
        if current_batch is not None:
            try:
                yield current_batch
            except BaseException:
                visibility.forget()  # what was read of it goes back with the savepoint around it
                raise
            return
        lock(using)
        opened = Batch(using)
        _open_batches[connection] = opened
        try:
            yield opened
        finally:
            _open_batches.pop(connection, None)
            visibility.forget()
        record(opened.actions, using)
        opened.recorder.write()


def open_batch(using: str = DEFAULT_DB_ALIAS) -> Batch | None:
    """Return the batch that this thread writes in at the moment, if any."""
    return _open_batches.get(connections[using])


def lock(using: str = DEFAULT_DB_ALIAS) -> None:
    """Take the counter's lock until the transaction ends: first of all locks, before any registry row is touched.

    Raises:
        TransactionManagementError: there is no transaction.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("the generation can only be locked inside transaction.atomic()")
    rows = GenerationCounter.objects.using(using).filter(pk=COUNTER_PK)
    for _ in range(2):
        if connection.features.has_select_for_update:
            found = bool(rows.select_for_update().values_list("pk", flat=True))
        else:
            # SQLite: any write takes the one write lock.
            found = bool(rows.update(value=F("value")))
        if found:
            visibility.forget()  # another writer may have changed it while this one waited
            return
        # The row went with a flush; numbers go on after what the log still holds.
        newest = Change.objects.using(using).aggregate(newest=Max("generation"))["newest"] or 0
        GenerationCounter.objects.using(using).bulk_create(
            [GenerationCounter(pk=COUNTER_PK, value=newest)], ignore_conflicts=True
        )
    raise RuntimeError("the generation counter has no row: run manage.py migrate")


def record(actions: dict[Root, ChangeAction], using: str = DEFAULT_DB_ALIAS) -> int | None:
    """Number the changed roots, one generation each, and announce the newest after commit.

    The transaction must hold the counter's `lock`. Returns the newest generation, None where nothing changed.
    """
    if not actions:
        return None
    connection = connections[using]
    counter = connection.ops.quote_name(GenerationCounter._meta.db_table)
    log = connection.ops.quote_name(Change._meta.db_table)
    # Not below the log, whatever a fixture or a restored backup made of the counter.
    last = f"(SELECT COALESCE(MAX(generation), 0) FROM {log})"  # noqa: S608 - our own tables' names
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {counter} SET value = CASE WHEN value < {last} THEN {last} ELSE value END + %s "  # noqa: S608
            "WHERE id = %s RETURNING value",
            [len(actions), COUNTER_PK],
        )
        newest = int(cursor.fetchone()[0])
    first = newest - len(actions) + 1
    numbered = enumerate(actions.items(), start=first)
    if len(actions) < MANY:
        Change.objects.using(using).bulk_create(
            [
                Change(generation=generation, kind=root.kind, object_id=root.object_id, action=action)
                for generation, (root, action) in numbered
            ]
        )
    else:
        now = Change._meta.get_field("created_at").get_db_prep_save(timezone.now(), connection)
        write_values(
            Change,
            ("generation", "kind", "object_id", "action", "created_at"),
            ((generation, str(root.kind), root.object_id, str(action), now) for generation, (root, action) in numbered),
            using,
        )
    if newest // PRUNE_EVERY != (first - 1) // PRUNE_EVERY:
        prune(KEEP, using)
    _announce_after_commit(newest, using)
    return newest


def current(using: str = DEFAULT_DB_ALIAS) -> int:
    """Return the newest visible generation; 0 before the first change."""
    value = GenerationCounter.objects.using(using).filter(pk=COUNTER_PK).values_list("value", flat=True).first()
    return value or 0


def changes_since(generation: int, limit: int = CHANGES_LIMIT, using: str = DEFAULT_DB_ALIAS) -> ChangeSet:
    """Return what changed after a generation: one query where nothing did, two otherwise.

    Rows that are read after this are at least as new as `ChangeSet.generation`.

    Args:
        generation: what the caller has; 0 for nothing.
        limit: with more changes than this, `ChangeSet.reload` is set.
    """
    newest = current(using)
    if newest == generation:
        return ChangeSet(generation)
    rows = list(
        Change.objects.using(using)
        .filter(generation__gt=generation)
        .order_by("generation")
        .values_list("generation", "kind", "object_id")[: limit + 1]
    )
    if newest < generation or len(rows) > limit or not rows or rows[0][0] != generation + 1:
        return ChangeSet(newest, reload=True)
    ids: dict[str, set[int]] = {kind: set() for kind in ChangeKind.values}
    for _, kind, object_id in rows:
        ids[kind].add(object_id)
    return ChangeSet(
        generation=rows[-1][0],
        tenants=frozenset(ids[ChangeKind.TENANT]),
        nodes=frozenset(ids[ChangeKind.NODE]),
        backends=frozenset(ids[ChangeKind.BACKEND]),
        sites=frozenset(ids[ChangeKind.SITE]),
    )


def prune(keep: int = KEEP, using: str = DEFAULT_DB_ALIAS) -> int:
    """Delete all but the newest ``keep`` changes; a reader that is further behind reads everything again.

    Returns the number of deleted changes.
    """
    if keep < 0:
        raise ValueError(f"keep {keep} is negative: give the number of changes to keep")
    deleted, _ = Change.objects.using(using).filter(generation__lte=current(using) - keep).delete()
    return deleted


class _Announcement:
    """What a transaction announces once, after its commit: its newest generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation

    def __call__(self) -> None:
        generation_committed.send(sender=type(self), generation=self.generation)


def _announce_after_commit(generation: int, using: str) -> None:
    for _, waiting, *_ in connections[using].run_on_commit:
        if isinstance(waiting, _Announcement):
            waiting.generation = max(waiting.generation, generation)
            return
    transaction.on_commit(_Announcement(generation), using=using, robust=True)
