"""Hints over a real redis-server, sent by a real Celery worker, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import unittest
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop
from asgiref.sync import async_to_sync
from celery import current_app
from channels.layers import channel_layers
from django.test import override_settings

from tenants import tasks
from tenants.bridge import hints
from tenants.bridge.follower import ConfigFollower
from tenants.models import Backend
from tests.support.celery_worker import CeleryWorker
from tests.support.redis import RedisServer
from tests.support.registry import make_served_backend, make_tenant, sqlite_database
from tests.support.waiting import async_wait_until
from tests.tenants.bridge.test_follower import NEVER, Watcher, in_thread

RedisLayer = "channels_redis.pubsub.RedisPubSubChannelLayer"


def layers(url: str) -> dict[str, Any]:
    """Return CHANNEL_LAYERS as the project's settings have them with this REDIS_URL."""
    return {"default": {"BACKEND": RedisLayer, "CONFIG": {"hosts": [{"address": url, "socket_timeout": None}]}}}


class HintCase(unittest.TestCase):
    def setUp(self) -> None:
        self.redis = self.enterContext(RedisServer())
        self.enterContext(override_settings(CHANNEL_LAYERS=layers(self.redis.url)))
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    async def announce(self) -> None:
        await asyncio.to_thread(tasks.announce_generation, 1)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        task = asyncio.create_task(hints.listen(self.wake))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def is_heard(self) -> None:
        """Wait until a hint gets through; each is sent once and may be lost while nobody is subscribed."""
        before = self.woken

        def heard() -> bool:
            return self.woken > before

        for _ in range(100):
            with contextlib.suppress(Exception):
                await self.announce()
            with contextlib.suppress(AssertionError):
                await async_wait_until(heard, "a hint", timeout=0.2)
                return
        raise AssertionError("no hint got through")

    def on_each_loop(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
            with self.subTest(factory.__module__), asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())


class ListenTests(HintCase):
    def test_a_hint_wakes(self) -> None:
        async def main() -> None:
            async with self.listening():
                await async_wait_until(lambda: self.woken, "the wake-up after subscribing")
                self.woken = 0
                await self.announce()
                await async_wait_until(lambda: self.woken == 1, "the hint")
            self.assertEqual(asyncio.all_tasks(), {asyncio.current_task()})

        self.on_each_loop(main)

    def test_redis_is_killed_and_started_again(self) -> None:
        async def main() -> None:
            async with self.listening():
                await self.is_heard()
                for _ in range(2):
                    with self.assertLogs("tenants.bridge", "INFO") as logs, self.assertNoLogs("channels_redis.pubsub"):
                        self.redis.kill()
                        await async_wait_until(lambda: logs.records, "the log says so")
                        self.woken = 0
                        await asyncio.to_thread(self.redis.start)
                        await async_wait_until(lambda: self.woken, "it subscribed again")
                        await self.is_heard()
                    self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])

        self.on_each_loop(main)

    def test_redis_is_not_there_at_the_start(self) -> None:
        async def main() -> None:
            self.redis.kill()
            with self.assertLogs("tenants.bridge", "INFO") as logs:
                async with self.listening():
                    await async_wait_until(lambda: logs.records, "the log says so")
                    await asyncio.to_thread(self.redis.start)
                    await self.is_heard()
            self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])

        self.on_each_loop(main)

    def test_what_arrives_is_not_looked_at(self) -> None:
        async def main() -> None:
            async with self.listening():
                await async_wait_until(lambda: self.woken, "the wake-up after subscribing")
                self.woken = 0
                layer = channel_layers.make_backend("default")
                with self.assertNoLogs():
                    for number, message in enumerate(
                        ({"type": "nonsense", "generation": "x" * 1000}, {}, {"a": [None]})
                    ):
                        await layer.group_send(tasks.GROUP, message)
                        await async_wait_until(lambda wanted=number + 1: self.woken == wanted, "the hint")
                    await layer.flush()
                    # It is the same subscription still: what it could not have read has not ended it.
                    await self.announce()
                    await async_wait_until(lambda: self.woken == 4, "the next hint")

        asyncio.run(main())

    def test_the_logs_filter_goes_with_the_listener(self) -> None:
        async def main() -> None:
            async with self.listening():
                await self.is_heard()
                self.assertTrue(logging.getLogger("channels_redis.pubsub").filters)

        asyncio.run(main())
        self.assertEqual(logging.getLogger("channels_redis.pubsub").filters, [])


class WholeWayTests(HintCase):
    """Save → commit → Celery task → Redis → follower, without polling."""

    def setUp(self) -> None:
        super().setUp()
        self.alias = self.enterContext(sqlite_database())
        url = self.redis.url
        values = {"task_always_eager": False, "broker_url": url, "broker_write_url": url, "broker_read_url": url}
        before = {name: current_app.conf.get(name) for name in values}
        current_app.conf.update(values)
        self.addCleanup(current_app.conf.update, before)
        tasks._Broker.silent_until = 0.0

    def test_an_edit_reaches_the_follower_and_does_so_again_after_redis_was_killed(self) -> None:
        backend = make_served_backend(make_tenant(self.alias), using=self.alias)

        def edit(weight: int) -> Callable[[], None]:
            return lambda: Backend.objects.using(self.alias).filter(pk=backend.pk).update(weight=weight)

        async def main() -> None:
            watcher = Watcher(ConfigFollower(using=self.alias, poll_interval=NEVER, hints=True))
            try:
                await watcher.until(lambda config: bool(config.backends), "the first")
                # Until the subscription stands a hint may be lost, and here nobody polls.
                await self.is_heard_by(watcher)
                for weight in range(2, 22):
                    await in_thread(self.alias, edit(weight))
                    await watcher.until(lambda config, weight=weight: self.weight(config) == weight, f"weight {weight}")
                self.redis.kill()
                with self.assertLogs("tenants.tasks", "WARNING"):
                    await in_thread(self.alias, edit(50))
                await asyncio.to_thread(self.redis.start)
                await watcher.until(lambda config: self.weight(config) == 50, "the edit of the outage")
                await self.is_heard_by(watcher)
            finally:
                await watcher.stop()

        with CeleryWorker(self.redis.url):
            self.on_each_loop(main)

    def weight(self, config: Any) -> int:
        return next(iter(config.backends.values())).claims.weight

    async def is_heard_by(self, watcher: Watcher) -> None:
        for weight in range(1000, 1200):
            await in_thread(self.alias, lambda weight=weight: Backend.objects.using(self.alias).update(weight=weight))
            with contextlib.suppress(AssertionError):
                await async_wait_until(
                    lambda weight=weight: watcher.seen and self.weight(watcher.seen[-1]) == weight,
                    "a hint",
                    timeout=0.5,
                )
                return
        raise AssertionError("no hint got through")


class WithoutRedisTests(unittest.TestCase):
    def test_the_task_needs_no_loop_of_its_own(self) -> None:
        with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
            tasks.announce_generation(3)
            self.assertEqual(async_to_sync(asyncio.sleep)(0, "ran"), "ran")
