"""The route table with a million host routes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from relay.routing import PortRoutes, RouteTable
from tests.bench.rig import memory

ROUTES = 1_000_000


async def routes() -> dict[str, Any]:
    """Build, look up and change; CPU time of this process."""
    hosts = {f"h{number}.tenant{number % 1000}.example.com": "127.0.0.1:8080" for number in range(ROUTES)}
    some, before, start = list(hosts)[::97], memory(os.getpid()), time.process_time()
    table = RouteTable.build([PortRoutes("tcp", 443, hosts=hosts)])
    built, grown = time.process_time() - start, memory(os.getpid()) - before
    return {
        "host routes": ROUTES,
        "build, s": round(built, 2),
        "memory beside the names, bytes a route": round(grown / ROUTES),
        "look-up, µs": _each(some, lambda name: table.match(443, name)),
        "look-up of a name without a route, µs": _each(some, lambda name: table.match(443, "x." + name)),
        "change of one route, µs": _each(some[:1000], lambda name: table.with_route(443, name, "127.0.0.1:9090")),
    }


def _each(names: list[str], work: Callable[[str], object]) -> float:
    start = time.process_time()
    for name in names:
        work(name)
    return round((time.process_time() - start) / len(names) * 1e6, 2)
