"""The follower against real databases: every change arrives, and nothing that happens to the database ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import unittest
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from unittest import mock

from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connections, transaction
from django.test import override_settings, tag
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from relay.config import RelayConfig, Removal, RemovalMode
from relay.config.target_policy import TargetPolicy
from relay.limits.quota import TokenBucket
from tenants.bridge import follower
from tenants.bridge.follower import SAVED, SHARE, ConfigFollower
from tenants.bridge.snapshot import backend_key
from tenants.changes import generations
from tenants.models import (
    Backend,
    Change,
    Credential,
    GenerationCounter,
    Hostname,
    HostRoute,
    NexusNode,
    PortMapping,
    Site,
    Tenant,
)
from tests.support.registry import (
    make_node,
    make_served_backend,
    make_tenant,
    migrated_server,
    postgres_database,
    sqlite_database,
)
from tests.support.waiting import async_wait_until

_T = TypeVar("_T")
PATIENCE = 20.0
NEVER = 3600.0  # a poll interval: only a hint makes the follower look


class Watcher:
    """What a relay would do with a follower: keep the newest configuration."""

    def __init__(self, follower: ConfigFollower) -> None:
        self.follower = follower
        self.seen: list[RelayConfig] = []
        self._arrived = asyncio.Condition()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with contextlib.aclosing(self.follower.configs()) as configs:  # type: ignore[type-var]
            async for config in configs:
                async with self._arrived:
                    self.seen.append(config)
                    self._arrived.notify_all()

    async def until(self, condition: Callable[[RelayConfig], bool], what: str) -> RelayConfig:
        async with self._arrived:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._arrived.wait_for(lambda: bool(self.seen) and condition(self.seen[-1]))
            except TimeoutError:
                raise AssertionError(f"waited in vain: {what}; last: {self.seen[-1:]}") from None
        return self.seen[-1]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def in_thread(alias: str, work: Callable[[], _T]) -> _T:
    """Use the database from a thread, whose connection does not stay."""

    def run() -> _T:
        try:
            return work()
        finally:
            connections[alias].close()

    return await asyncio.to_thread(run)


class FollowerCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.alias = self.enterContext(sqlite_database())

    @contextlib.asynccontextmanager
    async def following(self, **options: Any) -> AsyncIterator[Watcher]:
        options = {"poll_interval": 0.02, "hints": False, "using": self.alias} | options
        watcher = Watcher(ConfigFollower(**options))
        try:
            yield watcher
        finally:
            await watcher.stop()

    async def write(self, work: Callable[[], _T]) -> _T:
        return await in_thread(self.alias, work)

    async def make(self, tenant: Tenant | None = None, **fields: Any) -> Backend:
        def work() -> Backend:
            return make_served_backend(tenant or make_tenant(self.alias), using=self.alias, **fields)

        return await self.write(work)

    def rows(self, model: Any) -> Any:
        return model.objects.using(self.alias)


class FollowTests(FollowerCase):
    async def test_an_empty_registry_is_a_configuration_too(self) -> None:
        async with self.following() as watcher:
            config = await watcher.until(lambda config: True, "the first configuration")
            self.assertEqual((dict(config.backends), config.generation), ({}, 0))

    async def test_every_kind_of_edit_arrives(self) -> None:
        backend, other = await self.make(), await self.make()
        key = f"backend:{backend.pk}"
        async with self.following() as watcher:
            await watcher.until(lambda config: len(config.backends) == 2, "both")

            def target_of(config: RelayConfig) -> str | None:
                return config.backends[key].routes.resolve(443, "nowhere.example.com")

            await self.write(lambda: self.rows(PortMapping).filter(backend=backend).update(default_target="h:1"))
            await watcher.until(lambda config: target_of(config) == "h:1", "the new target")

            await self.write(lambda: self.rows(HostRoute).filter(port_mapping__backend=backend).delete())
            await watcher.until(lambda config: not next(iter(config.backends[key].routes)).hosts, "the deleted route")

            await self.write(lambda: backend.nodes.add(make_node(self.alias)))
            await watcher.until(lambda config: len(config.backends[key].nodes) == 2, "the second node")

            def rename() -> None:
                hostname = self.rows(Hostname).get(backends=backend)
                hostname.name = "renamed.example.com"
                hostname.save()

            await self.write(rename)
            await watcher.until(
                lambda config: config.backends[key].claims.hostnames == ("renamed.example.com",), "the new hostname"
            )

            await self.write(lambda: self.rows(NexusNode).filter(backends=backend).last().delete())
            await watcher.until(lambda config: len(config.backends[key].nodes) == 1, "the deleted node")

            def disable(row: Any) -> Callable[[], None]:
                def work() -> None:
                    row.enabled = not row.enabled
                    row.save()

                return work

            await self.write(disable(backend))
            await watcher.until(lambda config: key not in config.backends, "the disabled backend")
            await self.write(disable(backend))
            await watcher.until(lambda config: key in config.backends, "the enabled backend")

            tenant = await self.write(lambda: self.rows(Tenant).get(pk=backend.tenant_id))
            await self.write(disable(tenant))
            await watcher.until(lambda config: key not in config.backends, "the disabled tenant")
            await self.write(disable(tenant))
            await watcher.until(lambda config: key in config.backends, "the enabled tenant")

            node = await self.write(self.rows(NexusNode).filter(backends=other).get)
            await self.write(disable(node))
            await watcher.until(lambda config: not config.backends[f"backend:{other.pk}"].nodes, "the disabled node")

            await self.write(tenant.delete)
            await watcher.until(lambda config: list(config.backends) == [f"backend:{other.pk}"], "the deleted tenant")
            self.assertEqual(watcher.seen[-1].generation, await self.write(lambda: generations.current(self.alias)))

    async def test_only_what_changed_is_replaced(self) -> None:
        backend, other = await self.make(), await self.make()
        async with self.following() as watcher:
            before = await watcher.until(lambda config: len(config.backends) == 2, "both")
            await self.write(lambda: self.rows(Backend).filter(pk=backend.pk).update(weight=5))
            after = await watcher.until(lambda config: config.backends[f"backend:{backend.pk}"].claims.weight == 5, "5")
            other_key = f"backend:{other.pk}"
            self.assertIs(after.backends[other_key], before.backends[other_key])
            self.assertEqual(before.backends[f"backend:{backend.pk}"].claims.weight, 1)

    async def test_how_a_backend_goes_comes_with_its_end(self) -> None:
        backend, other = await self.make(), await self.make()
        key = f"backend:{backend.pk}"
        async with self.following() as watcher:
            await watcher.until(lambda config: len(config.backends) == 2 and not config.removals, "both")
            chosen = self.rows(Backend).filter(pk=backend.pk)
            await self.write(lambda: chosen.update(enabled=False, removal_mode="kill"))
            config = await watcher.until(lambda config: key not in config.backends, "one less")
            self.assertEqual(dict(config.removals), {key: Removal(RemovalMode.KILL)})
            await self.write(lambda: chosen.update(removal_mode="drain", removal_seconds=60))
            await watcher.until(lambda config: config.removals.get(key) == Removal(seconds=60.0), "another way to go")
            await self.write(lambda: chosen.update(enabled=True))
            await watcher.until(lambda config: key in config.backends and not config.removals, "it is back")
            tenant = self.rows(Tenant).filter(pk=other.tenant_id)
            await self.write(lambda: tenant.update(enabled=False))
            await watcher.until(lambda config: list(config.removals) == [f"backend:{other.pk}"], "its tenant is off")
            await self.write(tenant.delete)
            await watcher.until(lambda config: not config.removals, "nothing is left of it")

    async def test_a_tenants_limits_reach_all_of_its_backends(self) -> None:
        backend = await self.make()
        await self.make(backend.tenant)
        async with self.following() as watcher:
            await watcher.until(lambda config: len(config.backends) == 2, "both")
            await self.write(lambda: self.rows(Tenant).filter(pk=backend.tenant_id).update(max_streams=3))
            config = await watcher.until(
                lambda config: all(found.tenant_limits.max_streams == 3 for found in config.backends.values()), "limits"
            )
            self.assertEqual(len(config.backends), 2)

    async def test_where_targets_may_be_reaches_all_that_it_bounds(self) -> None:
        backend, other = await self.make(), await self.make()

        def policies(config: RelayConfig, row: Backend) -> tuple[TargetPolicy, ...]:
            return config.backends[f"backend:{row.pk}"].target_policies

        async with self.following(site="north") as watcher, self.following() as elsewhere:
            await watcher.until(lambda config: len(config.backends) == 2 and not policies(config, backend), "both")
            await elsewhere.until(lambda config: len(config.backends) == 2, "both")
            tenant = self.rows(Tenant).filter(pk=backend.tenant_id)
            await self.write(lambda: tenant.update(target_networks=""))
            bounds = TargetPolicy(unix=True)
            config = await watcher.until(lambda config: policies(config, backend) == (bounds,), "a tenant's policy")
            self.assertEqual(policies(config, other), ())
            site = await self.write(lambda: self.rows(Site).create(slug="north", target_ports="80"))
            of_site = TargetPolicy(ports=((80, 80),), whose="site")
            config = await watcher.until(lambda config: policies(config, other) == (of_site,), "the site's policy")
            self.assertEqual(policies(config, backend), (bounds, of_site))
            await self.write(site.delete)
            config = await watcher.until(lambda config: policies(config, other) == (), "the site is gone")
            newest = await self.write(lambda: generations.current(self.alias))
            await async_wait_until(lambda: elsewhere.follower.generation >= newest, "the generation")
            self.assertEqual(len(elsewhere.seen), 2)

    async def test_what_is_not_routed_yields_nothing(self) -> None:
        await self.make()
        async with self.following() as watcher:
            await watcher.until(lambda config: True, "the first")
            await self.write(lambda: self.rows(Hostname).create(tenant=make_tenant(self.alias), name="x.example.com"))
            newest = await self.write(lambda: generations.current(self.alias))
            await async_wait_until(lambda: watcher.follower.generation >= newest, "the generation")
            self.assertEqual(len(watcher.seen), 1)

    async def test_a_hint_makes_it_look_at_once(self) -> None:
        backend = await self.make()
        async with self.following(poll_interval=NEVER) as watcher:
            await watcher.until(lambda config: True, "the first")
            for weight in (2, 3):
                await self.write(lambda weight=weight: self.rows(Backend).filter(pk=backend.pk).update(weight=weight))
                watcher.follower.wake()
                await watcher.until(
                    lambda config, weight=weight: next(iter(config.backends.values())).claims.weight == weight,
                    "the edit",
                )

    async def test_a_next_credential_has_its_turn_without_an_edit_or_a_poll(self) -> None:
        backend = await self.make()
        key = backend_key(backend.pk)

        def plan(seconds: float, secret: str) -> None:
            credential = Credential.objects.using(self.alias).get()
            credential.next_secret = secret
            credential.next_at = timezone.now() + timedelta(seconds=seconds)
            credential.save(using=self.alias)

        await self.write(lambda: plan(3600, "far away"))
        async with self.following(poll_interval=NEVER) as watcher:
            await watcher.until(lambda config: key in config.backends, "read")
            await self.write(lambda: plan(0.3, "the next one"))
            watcher.follower.wake()
            config = await watcher.until(
                lambda config: config.backends[key].credential.secret != "not so secret", "turn"
            )
        self.assertEqual(config.backends[key].credential.secret, "the next one")

    async def test_hints_before_the_edit_and_in_masses_do_no_harm(self) -> None:
        async with self.following(poll_interval=0.05) as watcher:
            await watcher.until(lambda config: True, "the first")
            for _ in range(200):
                watcher.follower.wake()
            await self.make()
            await watcher.until(lambda config: len(config.backends) == 1, "the backend")

    async def test_a_pruned_log_or_another_database_makes_it_read_everything(self) -> None:
        backend = await self.make()
        async with self.following(poll_interval=NEVER) as watcher:
            await watcher.until(lambda config: len(config.backends) == 1, "the first")

            def prune() -> None:
                self.rows(Backend).filter(pk=backend.pk).update(weight=8)
                make_tenant(self.alias)
                generations.prune(1, self.alias)

            await self.write(prune)
            watcher.follower.wake()
            await watcher.until(lambda config: config.backends[f"backend:{backend.pk}"].claims.weight == 8, "8")

            def restore_old_backup() -> None:
                self.rows(Change).all().delete()
                self.rows(GenerationCounter).update(value=1)
                with connections[self.alias].cursor() as cursor:
                    cursor.execute("UPDATE tenants_backend SET weight = 9")

            await self.write(restore_old_backup)
            watcher.follower.wake()
            config = await watcher.until(
                lambda config: config.backends[f"backend:{backend.pk}"].claims.weight == 9, "9"
            )
            self.assertEqual(config.generation, 1)

    async def test_everything_is_read_again_now_and_then(self) -> None:
        backend = await self.make()
        async with self.following(full_reload_interval=0.1) as watcher:
            await watcher.until(lambda config: len(config.backends) == 1, "the first")

            def behind_our_back() -> None:
                with connections[self.alias].cursor() as cursor:
                    cursor.execute("UPDATE tenants_backend SET weight = 6")

            await self.write(behind_our_back)
            await watcher.until(lambda config: config.backends[f"backend:{backend.pk}"].claims.weight == 6, "6")

    async def test_everything_is_read_again_when_asked(self) -> None:
        backend = await self.make()
        async with self.following(poll_interval=NEVER) as watcher:
            await watcher.until(lambda config: len(config.backends) == 1, "the first")

            def behind_our_back() -> None:
                with connections[self.alias].cursor() as cursor:
                    cursor.execute("UPDATE tenants_backend SET weight = 6")

            await self.write(behind_our_back)
            watcher.follower.reload()
            await watcher.until(lambda config: config.backends[f"backend:{backend.pk}"].claims.weight == 6, "6")

    async def test_everything_is_read_in_parts(self) -> None:
        made = [await self.make() for _ in range(5)]
        keys = {f"backend:{backend.pk}" for backend in made}
        with mock.patch.object(follower, "PART", 2):
            async with self.following(full_reload_interval=0.1) as watcher:
                config = await watcher.until(lambda config: set(config.backends) == keys, "all")

                def behind_our_back() -> None:
                    with connections[self.alias].cursor() as cursor:
                        cursor.execute("UPDATE tenants_backend SET weight = 6 WHERE id = %s", [made[4].pk])
                        cursor.execute("UPDATE tenants_backend SET enabled = false WHERE id = %s", [made[3].pk])

                await self.write(behind_our_back)
                again = await watcher.until(lambda config: len(config.backends) == 4, "one less")
        self.assertEqual(again.backends[f"backend:{made[4].pk}"].claims.weight, 6)
        self.assertIn(f"backend:{made[3].pk}", again.removals)
        for backend in made[:3]:
            # What is the same is the same object: a comparison of all of it is for no event loop.
            self.assertIs(again.backends[f"backend:{backend.pk}"], config.backends[f"backend:{backend.pk}"])

    async def test_the_search_for_cycles_goes_on_after_a_read_and_after_one_that_fails(self) -> None:
        await self.make()
        self.addCleanup(gc.unfreeze)
        frozen = gc.get_freeze_count()
        with mock.patch.object(follower, "LARGE", 1):
            async with self.following() as watcher:
                await watcher.until(lambda config: len(config.backends) == 1, "the first")
        self.assertTrue(gc.isenabled())
        self.assertGreater(gc.get_freeze_count(), frozen)
        with mock.patch.object(follower, "read", side_effect=OSError), self.assertLogs("tenants.bridge") as logs:
            watcher = Watcher(ConfigFollower(using=self.alias, poll_interval=60, hints=False))
            await async_wait_until(lambda: logs.records, "the log says so")
            self.assertTrue(gc.isenabled())
            await watcher.stop()

    async def test_a_backend_that_can_not_be_read_any_more_keeps_what_it_has(self) -> None:
        good, bad = await self.make(), await self.make()
        async with self.following() as watcher:
            first = await watcher.until(lambda config: len(config.backends) == 2, "both")

            def break_and_edit() -> None:
                keys = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
                with override_settings(FIELD_ENCRYPTION_KEYS=keys):
                    credential = self.rows(Credential).get(backend=bad)
                    credential.secret = "sealed with a key that the relay does not have"
                    credential.save()
                self.rows(Backend).filter(pk=good.pk).update(weight=2)

            with self.assertLogs("tenants.bridge", "ERROR") as logs:
                await self.write(break_and_edit)
                config = await watcher.until(
                    lambda config: config.backends[f"backend:{good.pk}"].claims.weight == 2, "the other's edit"
                )
            self.assertEqual(config.backends[f"backend:{bad.pk}"], first.backends[f"backend:{bad.pk}"])
            self.assertEqual(len(logs.records), 1)
            await self.write(lambda: self.rows(Backend).get(pk=bad.pk).delete())
            await watcher.until(lambda config: list(config.backends) == [f"backend:{good.pk}"], "the deleted one")

    async def test_a_quiet_poll_is_one_query(self) -> None:
        await self.make()
        follower = ConfigFollower(using=self.alias, hints=False)

        def count() -> int:
            connection = connections[self.alias]
            follower._take(*follower._read())  # type: ignore[misc]
            with CaptureQueriesContext(connection) as captured:
                self.assertIsNone(follower._read())
            return len(captured)

        self.assertEqual(await self.write(count), 1)

    async def test_a_registry_that_is_not_migrated_yet_is_waited_for(self) -> None:
        def drop() -> None:
            with connections[self.alias].cursor() as cursor:
                cursor.execute("ALTER TABLE tenants_generationcounter RENAME TO elsewhere")

        def put_back() -> None:
            with connections[self.alias].cursor() as cursor:
                cursor.execute("ALTER TABLE elsewhere RENAME TO tenants_generationcounter")

        await self.write(drop)
        with self.assertLogs("tenants.bridge", "INFO") as logs:
            async with self.following() as watcher:
                await async_wait_until(lambda: logs.records, "the log says so")
                await self.write(put_back)
                await watcher.until(lambda config: True, "the first")
        self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])

    async def test_nothing_is_left_when_it_ends(self) -> None:
        before = asyncio.all_tasks()
        async with self.following() as watcher:
            await watcher.until(lambda config: True, "the first")
        self.assertEqual(asyncio.all_tasks(), before)
        name = f"database-{self.alias}"
        await async_wait_until(lambda: name not in {thread.name for thread in threading.enumerate()}, "its thread ends")


class PauseTests(unittest.TestCase):
    def test_a_turn_that_is_due_makes_no_loop_of_looks_at_a_database_that_is_away(self) -> None:
        followed = ConfigFollower(poll_interval=5.0, hints=False)
        followed._turns = {"backend:1": timezone.now() - timedelta(seconds=1)}
        self.assertEqual(followed._pause(), 0.0)
        followed._outage.lasts = True
        self.assertEqual(followed._pause(), 5.0)

    def test_single_edits_are_followed_at_once_and_many_are_not(self) -> None:
        followed = ConfigFollower(poll_interval=0.5, hints=False)
        with mock.patch("time.monotonic", return_value=followed._time._at):
            self.assertEqual([followed._rest(0.2) for _ in range(4)], [0.0] * 4)
            self.assertEqual(followed._rest(60.0), 0.5)
            self.assertGreater(followed._time.ready_in(), 0.5)
        with mock.patch("time.monotonic", return_value=followed._time._at + 2 * SAVED / SHARE):
            self.assertEqual(followed._rest(0.2), 0.0)


class ShareTests(FollowerCase):
    async def test_who_wakes_it_all_the_time_gets_a_part_of_it(self) -> None:
        clock, looks, rests = Clock(), 0, 0

        def look() -> None:
            nonlocal looks
            looks += 1
            clock.now += 0.02

        async with self.following(poll_interval=NEVER) as watcher:
            await watcher.until(lambda config: True, "the first")
            followed = watcher.follower
            followed._time = TokenBucket(SHARE, 0.02, clock.now)
            rest_of = followed._rest

            def rest(spent: float) -> float:
                nonlocal rests
                due = rest_of(spent)
                clock.now += due
                rests += due > 0
                return 0.0

            with (
                mock.patch.object(follower, "time", clock),
                mock.patch.object(followed, "_read", look),
                mock.patch.object(followed, "_rest", rest),
            ):
                for number in range(20):
                    followed.wake()
                    await async_wait_until(lambda number=number: looks > number, "it looks")
        self.assertGreaterEqual(rests, 18)
        self.assertLessEqual(looks * 0.02, SHARE * clock.now + 0.04, "a quarter of the time, and what was saved up")


@dataclass
class Clock:
    """Time that passes only where it is told to."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@tag("slow")
class OutageTests(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.server = self.enterContext(migrated_server())
        self.alias = self.enterContext(postgres_database(self.server))
        self.backend = make_served_backend(make_tenant(self.alias), using=self.alias)
        connections[self.alias].close()

    def weight(self, config: RelayConfig) -> int:
        return config.backends[f"backend:{self.backend.pk}"].claims.weight

    async def test_a_database_that_goes_away_takes_nothing_with_it(self) -> None:
        rows = Backend.objects.using(self.alias).filter(pk=self.backend.pk)
        watcher = Watcher(ConfigFollower(using=self.alias, poll_interval=0.02, hints=False))
        try:
            await watcher.until(lambda config: self.weight(config) == 1, "the first")
            for weight in (2, 3):
                with self.assertLogs("tenants.bridge", "INFO") as logs:
                    await asyncio.to_thread(self.server.halt)
                    await async_wait_until(lambda: logs.records, "the log says so")
                    self.assertEqual(self.weight(watcher.seen[-1]), weight - 1)
                    await asyncio.to_thread(self.server.start)
                    await in_thread(self.alias, lambda weight=weight: rows.update(weight=weight))
                    await watcher.until(lambda config, weight=weight: self.weight(config) == weight, "the edit after")
                self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])
        finally:
            await watcher.stop()

    async def test_a_database_that_does_not_answer_is_reported_and_waited_for(self) -> None:
        rows = Backend.objects.using(self.alias).filter(pk=self.backend.pk)
        with mock.patch.object(follower, "SLOW_DATABASE_AFTER", 1.0):
            watcher = Watcher(ConfigFollower(using=self.alias, poll_interval=0.02, hints=False))
            try:
                await watcher.until(lambda config: self.weight(config) == 1, "the first")
                with self.assertLogs("tenants.bridge", "INFO") as logs:
                    locked, unlock = threading.Event(), threading.Event()

                    def lock() -> None:
                        with transaction.atomic(using=self.alias), connections[self.alias].cursor() as cursor:
                            cursor.execute("LOCK TABLE tenants_generationcounter IN ACCESS EXCLUSIVE MODE")
                            locked.set()
                            unlock.wait(PATIENCE)

                    locking = asyncio.create_task(in_thread(self.alias, lock))
                    await async_wait_until(locked.is_set, "the lock")
                    await async_wait_until(lambda: logs.records, "the log says so")
                    unlock.set()
                    await locking
                    await in_thread(self.alias, lambda: rows.update(weight=2))
                    await watcher.until(lambda config: self.weight(config) == 2, "the edit after")
                self.assertEqual(logs.records[0].levelname, "WARNING")
                self.assertEqual(logs.records[-1].levelname, "INFO")
            finally:
                await watcher.stop()
