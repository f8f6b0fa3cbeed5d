import asyncio
import socket
import time
from unittest import mock

from asgiref.sync import async_to_sync
from celery import current_app
from channels.layers import get_channel_layer
from django.test import SimpleTestCase, TransactionTestCase, override_settings

from tenants import tasks
from tenants.changes import generations
from tenants.models import Tenant
from tests.support.ports import free_port
from tests.support.registry import make_tenant


class AnnounceTests(TransactionTestCase):
    def setUp(self) -> None:
        tasks._Broker.outage.lasts, tasks._Broker.silent_until = False, 0.0
        self.addCleanup(setattr, tasks._Broker.outage, "lasts", False)
        self.addCleanup(setattr, tasks._Broker, "silent_until", 0.0)

    def broker(self, url: str) -> None:
        """Publish to this broker, as with REDIS_URL set."""
        values = {"task_always_eager": False, "broker_url": url, "broker_write_url": url, "broker_read_url": url}
        before = {name: current_app.conf.get(name) for name in values}
        current_app.conf.update(values)
        self.addCleanup(current_app.conf.update, before)

    @override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    def test_without_redis_the_task_runs_in_place_after_the_commit(self) -> None:
        layer = get_channel_layer()

        async def join() -> str:
            channel = await layer.new_channel()
            await layer.group_add(tasks.GROUP, channel)
            return channel

        channel = async_to_sync(join)()
        make_tenant()

        async def receive() -> dict[str, object]:
            async with asyncio.timeout(5):
                return await layer.receive(channel)

        message = async_to_sync(receive)()
        self.assertEqual(message, {"type": "generation.changed", "generation": generations.current()})

    def test_a_broker_that_is_down_fails_no_save_and_is_logged_once(self) -> None:
        self.broker(f"redis://127.0.0.1:{free_port()}/0")
        with self.assertLogs("tenants.tasks", "WARNING") as logs:
            for number in range(3):
                make_tenant(slug=f"saved-{number}")
        self.assertEqual(Tenant.objects.filter(slug__startswith="saved-").count(), 3)
        self.assertEqual(len(logs.records), 1)

    def test_a_broker_that_does_not_answer_is_left_alone_for_a_while(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
            with self.assertLogs("tenants.tasks", "WARNING"):
                make_tenant()
            self.assertGreater(tasks._Broker.silent_until, time.monotonic())
            attempts = mock.Mock()
            with mock.patch.object(tasks.announce_generation, "apply_async", attempts):
                make_tenant()
            attempts.assert_not_called()


class MessageTests(SimpleTestCase):
    def test_hints_do_not_pile_up_while_no_worker_runs(self) -> None:
        self.assertEqual(tasks.announce_generation.expires, tasks.HINT_LIFETIME)
