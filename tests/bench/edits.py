"""Edits while traffic flows: how soon they are live, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.celery_worker import CeleryWorker
from tests.support.lab import HOST, WILDCARD, Lab, lab
from tests.support.redis import RedisServer
from tests.support.targets import HttpTarget
from tests.support.users import TcpUser, http_get, request_head
from tests.support.waiting import async_wait_until

EDITS = 100
LOAD_EDITS = 200
LONG_STREAMS = 20
REQUESTS_PER_SECOND = 250


async def live_in(place: Lab, targets: list[HttpTarget], edits: int) -> dict[str, Any]:
    """Measure from the end of an edit to the first stream at the new target (milliseconds)."""
    times = []
    for number in range(edits):
        target = targets[number % 2]
        await place.route_to(target.address)
        start = time.monotonic()
        while await place.name_now() != target.name:
            await asyncio.sleep(0.002)
        times.append((time.monotonic() - start) * 1000)
    return {
        "edits": edits,
        "p50 ms": round(percentile(times, 0.5), 1),
        "p99 ms": round(percentile(times, 0.99), 1),
        "max ms": round(max(times), 1),
    }


async def hints(dialect: str, redis: RedisServer) -> dict[str, Any]:
    """Time 100 edits with Redis and a worker; after Redis was killed and started again; with the worker stopped."""
    from tests.support.databases import database_url

    worker = CeleryWorker(redis.url, DATABASE_URL=database_url())
    async with HttpTarget("blue") as blue, HttpTarget("green") as green:
        with worker:
            async with lab(blue.address, dialect) as place:
                results = {"with Redis and worker": await live_in(place, [green, blue], EDITS)}
                await asyncio.to_thread(redis.kill)
                results["while Redis is down (poll)"] = await live_in(place, [green, blue], 10)
                await asyncio.to_thread(redis.start)
                await _until_fast(place, [green, blue])
                results["after Redis came back"] = await live_in(place, [green, blue], EDITS)
                await asyncio.to_thread(worker.stop)
                results["with the worker stopped (poll)"] = await live_in(place, [green, blue], 20)
        return results


async def _until_fast(place: Lab, targets: list[HttpTarget]) -> None:
    """Wait until hints arrive again: worker and relay reconnect in their own time."""
    async with asyncio.timeout(60):
        while (await live_in(place, targets, 4))["max ms"] > 200:
            pass


@dataclass
class Load:
    """Constant short requests and long-lived streams."""

    requests: int = 0
    failed: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)
    running: bool = True


@contextlib.asynccontextmanager
async def load(place: Lab) -> AsyncIterator[Load]:
    """Keep the load up inside the block."""
    counts = Load()
    pending: set[asyncio.Task[None]] = set()

    async def request() -> None:
        answer = await http_get(place.http_port, HOST, "/small")
        counts.requests += 1
        if answer.status != 200 or len(answer.body) != 100:
            counts.failed += 1

    async def requests() -> None:
        start, number = time.monotonic(), 0
        while counts.running:
            task = asyncio.create_task(request())
            pending.add(task)
            task.add_done_callback(pending.discard)
            number += 1
            await asyncio.sleep(max(0, start + number / REQUESTS_PER_SECOND - time.monotonic()))

    async def long_stream() -> None:
        async with TcpUser(place.http_port) as user:
            await user.send(request_head(HOST, "/echo"))
            try:
                while counts.running:
                    await user.send(b"ping")
                    if await user.reader.readexactly(4) != b"ping":
                        raise ConnectionError("bytes changed")
                    await asyncio.sleep(0.1)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                counts.cut += 1
                counts.failures.append(repr(error))

    tasks = [asyncio.create_task(requests()), *(asyncio.create_task(long_stream()) for _ in range(LONG_STREAMS))]
    try:
        yield counts
    finally:
        counts.running = False
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*pending, return_exceptions=True)


def _figures(counts: Load, seconds: float) -> dict[str, Any]:
    return {
        "requests": counts.requests,
        "requests/s": round(counts.requests / seconds),
        "failed": counts.failed,
        "long streams": LONG_STREAMS,
        "cut": counts.cut,
    }


async def under_load(dialect: str) -> dict[str, Any]:
    """200 target edits; a credential with the same claims; a hostname more and one less: all under load."""
    results: dict[str, Any] = {}
    async with HttpTarget("blue") as blue, HttpTarget("green") as green, lab(blue.address, dialect) as place:
        start = time.monotonic()
        async with load(place) as counts:
            for number in range(LOAD_EDITS):
                await place.route_to((green, blue)[number % 2].address)
        results[f"{LOAD_EDITS} target edits"] = _figures(counts, time.monotonic() - start)

        start = time.monotonic()
        async with load(place) as counts:
            await place.edit(lambda: _replace_credential(place, [HOST, WILDCARD]))
            await asyncio.sleep(5)
        results["credential replaced, same claims"] = _figures(counts, time.monotonic() - start)

        start = time.monotonic()
        sessions = 1
        async with load(place) as counts:
            for change in (_add_hostname, _remove_hostname):
                await place.edit(change)
                if place.dialect == "token":
                    await place.edit(lambda: _replace_credential(place, _hostnames()))
                sessions += 1
                await place.until_up(sessions)
                await asyncio.sleep(15)
        results["hostname added, hostname removed"] = _figures(counts, time.monotonic() - start)
    return results


def _replace_credential(place: Lab, hostnames: list[str]) -> None:
    from tenants.models import Credential

    credential = Credential.objects.get()
    for name, value in place.credential(hostnames).items():
        setattr(credential, name, value)
    credential.policy_version = f"changed at {time.time()}"
    credential.save()


def _hostnames() -> list[str]:
    from tenants.models import Backend

    return list(Backend.objects.get().hostnames.values_list("name", flat=True))


def _add_hostname() -> None:
    from tenants.models import Backend, Hostname

    backend = Backend.objects.get()
    backend.hostnames.add(Hostname.objects.create(tenant=backend.tenant, name="new.example.com"))


def _remove_hostname() -> None:
    from tenants.models import Hostname

    Hostname.objects.get(name=WILDCARD).delete()


async def restarts(dialect: str) -> dict[str, Any]:
    """Kill and restart the node ten times; compare the relay before and after."""
    async with HttpTarget("blue") as blue, lab(blue.address, dialect) as place:
        await http_get(place.http_port, HOST, "/small")
        memory, files = place.memory(), place.open_files()
        back = []
        for _ in range(10):
            node = place.node
            assert node is not None
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(place.start_node)
            start = time.monotonic()
            async with asyncio.timeout(90):
                while await place.name_now() != "blue":
                    await asyncio.sleep(0.05)
            back.append(time.monotonic() - start)
        await async_wait_until(lambda: place.open_files() <= files, "sockets are closed")
        return {
            "back after the node listens, median s": round(percentile(back, 0.5), 2),
            "slowest s": round(max(back), 2),
            "file descriptors before, after": [files, place.open_files()],
            "memory growth MiB": round((place.memory() - memory) / 2**20, 1),
        }


def redis_for_hints() -> RedisServer:
    """Start the Redis of `hints` and let this process and its children use it."""
    redis = RedisServer().start()
    os.environ["REDIS_URL"] = redis.url
    return redis


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
