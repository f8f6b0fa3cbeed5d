"""Two and more writers at once: generations become visible in order, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import random
import threading
import unittest
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.db import connections, transaction

from tenants.changes import generations
from tenants.models import Backend, Change, GenerationCounter, Membership, PortMapping, Tenant
from tests.support.registry import make_backend, make_tenant, postgres_database, sqlite_database

PATIENCE = 30.0  # seconds before a test gives up


class RolledBack(Exception):
    pass


class OrderingTests:
    """What must hold on each database; the subclasses say which.

    They are no Django test cases: those forbid threads the databases that they do not know.
    """

    alias: ClassVar[str]

    def setUp(self) -> None:
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown)

    def start(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run something in a thread with a database connection of its own."""

        def run() -> Any:
            try:
                return work(*args)
            finally:
                connections[self.alias].close()

        return self.pool.submit(run)

    def is_blocked(self, waiting: Future[Any]) -> bool:
        """Tell, once that is certain, whether a writer waits for another."""
        raise NotImplementedError

    def test_a_later_writer_waits_for_the_earlier_one_and_no_reader_misses_it(self) -> None:
        tenant = make_tenant(self.alias)
        start = generations.current(self.alias)
        first_has_written, first_may_commit = threading.Event(), threading.Event()

        def first() -> int:
            with transaction.atomic(using=self.alias):
                key = make_backend(tenant, self.alias, name="first").pk
                first_has_written.set()
                self.assertTrue(first_may_commit.wait(PATIENCE))
            return key

        def second() -> int:
            return make_backend(tenant, self.alias, name="second").pk

        earlier = self.start(first)
        self.assertTrue(first_has_written.wait(PATIENCE))
        later = self.start(second)
        self.assertTrue(self.is_blocked(later))
        self.assertEqual(generations.changes_since(start, using=self.alias), generations.ChangeSet(start))
        first_may_commit.set()
        keys = [earlier.result(PATIENCE), later.result(PATIENCE)]
        recorded = Change.objects.using(self.alias).filter(generation__gt=start).values_list("generation", "object_id")
        self.assertEqual(list(recorded), [(start + 1, keys[0]), (start + 2, keys[1])])

    def test_a_reader_that_polls_all_the_time_never_misses_a_generation(self) -> None:
        tenant = make_tenant(self.alias)
        start = generations.current(self.alias)
        writers_done = threading.Event()
        committed: set[int] = set()

        def write(seed: int) -> set[int]:
            dice, made = random.Random(seed), set()
            for turn in range(12):
                with contextlib.suppress(RolledBack), transaction.atomic(using=self.alias):
                    keys = {
                        make_backend(tenant, self.alias, name=f"{seed}-{turn}-{n}").pk
                        for n in range(dice.randint(1, 4))
                    }
                    if dice.random() < 0.25:
                        raise RolledBack
                    made |= keys
            return made

        def read() -> set[int]:
            seen, at = set(), start
            while True:
                last_turn = writers_done.wait(0.001)  # else it would keep the writers from their turn
                found = generations.changes_since(at, using=self.alias)
                self.assertFalse(found.reload)
                # What the log says is there to be read by now.
                present = Backend.objects.using(self.alias).filter(pk__in=found.backends).count()
                self.assertEqual(present, len(found.backends))
                seen |= found.backends
                at = found.generation
                if last_turn:
                    return seen

        self.addCleanup(writers_done.set)  # else the reader would go on for ever where a writer fails
        reader = self.start(read)
        for writer in [self.start(write, seed) for seed in range(4)]:
            committed |= writer.result(PATIENCE)
        writers_done.set()
        self.assertEqual(reader.result(PATIENCE), committed)
        numbers = list(
            Change.objects.using(self.alias).filter(generation__gt=start).values_list("generation", flat=True)
        )
        self.assertEqual(numbers, list(range(start + 1, start + 1 + len(committed))))

    def test_writers_that_touch_the_same_rows_in_opposite_order_do_not_deadlock(self) -> None:
        tenant = make_tenant(self.alias)
        one, two = (make_backend(tenant, self.alias) for _ in range(2))
        for backend in (one, two):
            PortMapping.objects.using(self.alias).create(backend=backend, public_port=443)
        started = threading.Barrier(5)
        user = get_user_model().objects.db_manager(self.alias).create_user("member")

        def save_both(first: Backend, second: Backend) -> None:
            for turn in range(10):
                with transaction.atomic(using=self.alias):
                    for backend in (first, second):
                        row = Backend.objects.using(self.alias).get(pk=backend.pk)
                        row.weight = row.weight + 1 + turn
                        row.save()

        def upsert(first: Backend, second: Backend) -> None:
            for turn in range(10):
                with transaction.atomic(using=self.alias):
                    for backend in (first, second):
                        PortMapping.objects.using(self.alias).update_or_create(
                            backend=backend, public_port=443, defaults={"default_target": f"localhost:{turn + 1}"}
                        )

        def lock_rows() -> None:
            for _ in range(10):
                with transaction.atomic(using=self.alias):
                    list(Backend.objects.using(self.alias).select_for_update().order_by("-pk"))
                    Backend.objects.using(self.alias).filter(pk=one.pk).update(site="north")

        def work(job: Callable[..., None], *args: Backend) -> None:
            started.wait(PATIENCE)
            job(*args)

        def join_and_leave() -> None:
            for _ in range(10):
                with transaction.atomic(using=self.alias):
                    membership = Membership.objects.using(self.alias).create(user_id=user.pk, tenant=tenant)
                    make_backend(tenant, self.alias).delete()
                    membership.delete()

        jobs = [
            self.start(work, save_both, one, two),
            self.start(work, save_both, two, one),
            self.start(work, upsert, two, one),
            self.start(work, lock_rows),
            self.start(work, join_and_leave),
        ]
        for job in jobs:
            job.result(PATIENCE)

    def test_deleting_a_tenant_while_others_write_below_it(self) -> None:
        for _ in range(5):
            tenant = make_tenant(self.alias)
            keeper = make_backend(make_tenant(self.alias), self.alias)
            started = threading.Barrier(2)

            def write_below(tenant: Tenant = tenant, started: threading.Barrier = started) -> None:
                started.wait(PATIENCE)
                # The tenant may be gone by then: that is refused, not a deadlock.
                with contextlib.suppress(Exception):
                    make_backend(tenant, self.alias)

            def delete(tenant: Tenant = tenant, keeper: Any = keeper, started: threading.Barrier = started) -> None:
                started.wait(PATIENCE)
                with transaction.atomic(using=self.alias):
                    Tenant.objects.using(self.alias).filter(pk=tenant.pk).delete()
                    Backend.objects.using(self.alias).filter(pk=keeper.pk).update(weight=2)

            jobs = [self.start(write_below), self.start(delete)]
            for job in jobs:
                job.result(PATIENCE)
            self.assertFalse(Backend.objects.using(self.alias).filter(tenant_id=tenant.pk).exists())

    def test_two_first_writers_share_one_counter(self) -> None:
        with transaction.atomic(using=self.alias):
            generations.lock(self.alias)
            GenerationCounter.objects.using(self.alias).all().delete()
        jobs = [self.start(make_tenant, self.alias) for _ in range(4)]
        for job in jobs:
            job.result(PATIENCE)
        newest = list(Change.objects.using(self.alias).values_list("generation", flat=True))[-4:]
        self.assertEqual(newest, list(range(newest[0], newest[0] + 4)))
        self.assertEqual(generations.current(self.alias), newest[-1])


class SqliteOrderingTests(OrderingTests, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.alias = cls.enterClassContext(sqlite_database())

    def is_blocked(self, waiting: Future[Any]) -> bool:
        # SQLite's waiting shows nowhere; that it has not finished for a while is all that one can see.
        with contextlib.suppress(TimeoutError):
            waiting.exception(0.3)
        return not waiting.done()


class PostgresOrderingTests(OrderingTests, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.alias = cls.enterClassContext(postgres_database())

    def is_blocked(self, waiting: Future[Any]) -> bool:
        tick = threading.Event()
        for _ in range(int(PATIENCE / 0.02)):
            with connections[self.alias].cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if cursor.fetchone()[0]:
                    return not waiting.done()
            if waiting.done():
                return False
            tick.wait(0.02)
        return False
