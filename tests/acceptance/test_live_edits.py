"""An edit reaches live traffic: registry, relay, node, Redis and Celery worker as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from unittest import mock

from celery import current_app
from django.test import TransactionTestCase, tag
from django.utils import timezone

from tenants.changes import generations
from tenants.models import Backend, Credential, Hostname, NexusNode, PortMapping, Tenant
from tests.support.celery_worker import CeleryWorker, forget_connections
from tests.support.lab import HOST, WILDCARD, Lab, lab
from tests.support.redis import RedisServer
from tests.support.targets import HttpTarget
from tests.support.users import TcpUser, request_head
from tests.support.waiting import async_wait_until


async def served_by(place: Lab, name: str, timeout: float = 20.0) -> None:
    """Wait until new streams end at the target of this name."""
    async with asyncio.timeout(timeout):
        while await place.name_now() != name:
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def talking(place: Lab) -> AsyncIterator[TcpUser]:
    """Keep a stream open that echoes, and check at the end that it still does."""
    async with TcpUser(place.http_port) as user:
        await user.send(request_head(HOST, "/echo") + b"before")
        await user.receive(6)
        yield user
        await user.send(b"after")
        assert await user.receive(5) == b"after"


def sessions(place: Lab) -> int:
    """Return how many sessions the relay has had."""
    assert place.relay is not None
    return place.relay.output().count('"session up"') + place.relay.output().count('"session replaced"')


@contextlib.contextmanager
def celery_through(url: str) -> Iterator[None]:
    """Send this process's tasks to a broker, as a web process with REDIS_URL does."""
    conf = current_app.conf
    before = {name: conf[name] for name in ("broker_url", "task_always_eager")}
    conf.update(broker_url=url, task_always_eager=False)
    try:
        yield
    finally:
        conf.update(before)
        forget_connections()


@tag("slow")
class LiveEditTests(TransactionTestCase):
    async def test_targets_credentials_and_hostnames_are_followed_without_cutting(self) -> None:
        for dialect in ("attested", "token"):
            with self.subTest(dialect):
                async with (
                    HttpTarget("blue") as blue,
                    HttpTarget("green") as green,
                    lab(blue.address, dialect) as place,
                ):
                    async with talking(place):
                        await served_by(place, "blue")
                        await place.route_to(green.address)
                        await served_by(place, "green")
                        self.assertEqual(sessions(place), 1, "a target edit touches no session")

                        await place.edit(lambda: renew_credential(place))
                        await place.route_to(blue.address)
                        await served_by(place, "blue")
                        # A stored token is shown to the node at once, any other credential when it is asked for.
                        up = 1 if dialect == "attested" else 2
                        await place.until_up(up)
                        self.assertEqual(sessions(place), up, "a credential with the same claims neither")

                        await place.edit(lambda: add_hostname(place))
                        await place.until_up(up + 1)
                        self.assertEqual(await place.name_now("new.example.com"), "blue")

                        await place.edit(lambda: plan_credential(place))
                        await place.until_up(2 if dialect == "attested" else 4)
                        await served_by(place, "blue")
                    await place.edit(Tenant.objects.all().delete)
                    await place.edit(NexusNode.objects.all().delete)
                    await served_by(place, "")

    async def test_disabled_and_enabled(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address) as place:
            await served_by(place, "blue")
            await place.edit(lambda: Backend.objects.update(enabled=False))
            await served_by(place, "")
            await place.edit(lambda: Backend.objects.update(enabled=True))
            await served_by(place, "blue")

    async def test_settings_of_a_mapping_and_a_limit_serve_the_next_stream(self) -> None:
        async with HttpTarget("blue") as blue, lab(f"127.0.0.1:1,{blue.address}") as place:
            await served_by(place, "blue")  # the first of the two targets is dead
            async with talking(place):
                await place.edit(lambda: PortMapping.objects.update(access_deny="127.0.0.0/8, ::1/128"))
                await served_by(place, "")
                await place.edit(lambda: PortMapping.objects.update(access_mode="observe"))
                await served_by(place, "blue")
                await place.edit(lambda: Tenant.objects.update(max_streams=1))
                await served_by(place, "")
                await place.edit(lambda: Tenant.objects.update(max_streams=0))
                await served_by(place, "blue")
            self.assertEqual(sessions(place), 1)

    async def test_switched_off_in_either_way(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address) as place:
            await served_by(place, "blue")
            async with TcpUser(place.http_port) as user:
                await user.send(request_head(HOST, "/echo") + b"before")
                await user.receive(6)
                await place.edit(lambda: Backend.objects.update(enabled=False))
                await async_wait_until(lambda: '"removed": 1' in place.relay.output(), "the relay has heard of it")
                await user.send(b"drains")
                self.assertEqual(await user.receive(6), b"drains")
                # The node cannot be told, and sends users until the session closes: they are served.
                self.assertEqual(await place.name_now(), "blue")
                await place.edit(lambda: Backend.objects.update(removal_mode="kill"))
                self.assertEqual(await user.receive_all(), b"")
                await served_by(place, "")

    async def test_the_relay_returns_after_the_node_was_killed(self) -> None:
        async with HttpTarget("blue") as blue, lab(blue.address) as place:
            await served_by(place, "blue")
            files = place.open_files()
            for _ in range(2):
                assert place.node is not None
                await asyncio.to_thread(place.node.kill)
                await asyncio.to_thread(place.start_node)
                await served_by(place, "blue", timeout=60)
            await async_wait_until(lambda: place.open_files() <= files, "no socket is left over")

    async def test_hints_are_all_that_is_needed_and_nothing_that_is_relied_on(self) -> None:
        with RedisServer() as redis, mock.patch.dict(os.environ, REDIS_URL=redis.url), celery_through(redis.url):
            with CeleryWorker(redis.url) as worker:
                async with HttpTarget("blue") as blue, HttpTarget("green") as green:
                    # Polled so rarely that only a hint can be behind an edit that arrives.
                    async with lab(blue.address, relay_arguments=("--poll-interval", "3600")) as place:
                        for target in (green, blue, green):
                            await place.route_to(target.address)
                            await served_by(place, target.name)
                        await asyncio.to_thread(redis.kill)
                        await place.route_to(blue.address)
                        await asyncio.to_thread(redis.start)
                        # The hint is lost; the relay reads what it missed when it is back at Redis.
                        await served_by(place, "blue", timeout=40)
                        await asyncio.to_thread(worker.stop)
                        await asyncio.to_thread(place.restart_relay)
                        await place.route_to(green.address)
                        await served_by(place, "green")
                        await asyncio.to_thread(redis.kill)
                        await place.route_to(blue.address)
                        await served_by(place, "blue")


def renew_credential(place: Lab) -> None:
    """Replace the credential by another one with the same claims."""
    credential = Credential.objects.get()
    for name, value in place.credential([HOST, WILDCARD]).items():
        setattr(credential, name, value)
    credential.policy_version = "renewed"
    credential.save()


def plan_credential(place: Lab) -> None:
    """Put a next secret beside the credential; it serves in a moment. A token has other claims than the stored one."""
    credential = Credential.objects.get()
    credential.next_secret = place.credential([HOST, WILDCARD])["secret"]
    credential.next_at = timezone.now() + timedelta(seconds=0.5)
    credential.save()


def add_hostname(place: Lab) -> None:
    """Let the backend serve one more hostname; a token that is not minted here must say so as well."""
    backend = Backend.objects.get()
    with generations.batch():
        backend.hostnames.add(Hostname.objects.create(tenant=backend.tenant, name="new.example.com"))
        for name, value in place.credential([HOST, WILDCARD, "new.example.com"]).items():
            setattr(backend.credential, name, value)
        backend.credential.save()
