"""How fast the relay is, and what it costs: each figure beside HAProxy's of the same minute where there is one.

The CPU time is the relay process's own. The node and the targets take part of the same cores, so the relay's MB/s are
what it reaches beside them.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable
from typing import Any

from tests.bench.rig import GB, Rig, cpu_seconds, haproxy, memory, rig
from tests.support.programs import find_haproxy

IDLE_STREAMS = 5000
INTERACTIVE, PACE = 200, 0.05
QUOTED = {
    "down": "quoted: 150 to 165 MB/s, 3.0 to 3.9 CPU-s/GB",
    "up": "quoted: 140 to 205 MB/s, 4.4 CPU-s/GB",
}
"""The Go reference client's figures, as measured on another machine and handed down; it is not run here."""

Figures = dict[str, list[float]]


async def speed(runs: int, seconds: float) -> dict[str, Any]:
    """Bulk, echo and short connections, ``runs`` times each, taking turns with HAProxy."""
    figures: dict[str, Figures] = {}

    async def note(name: str, measured: Awaitable[dict[str, float]]) -> None:
        for unit, value in (await measured).items():
            figures.setdefault(name, {}).setdefault(unit, []).append(value)

    async with rig() as place:
        for _ in range(runs):
            for direction, mode in (("down", "D"), ("up", "U")):
                for streams in (1, 16):
                    name = f"bulk {direction}, {streams} stream{'s' if streams > 1 else ''}"
                    await note(name, bulk(place, mode, streams, seconds))
                    if find_haproxy():
                        await note(f"{name}: HAProxy", haproxy(direction, streams, seconds))
            for streams in (1, 64):
                await note(f"64-byte echo, {streams} stream{'s' if streams > 1 else ''}", echo(place, streams, seconds))
            await note("short connections, 64 at a time", short(place, seconds))
    results: dict[str, Any] = {name: _spread(values) for name, values in figures.items()}
    for direction in QUOTED:
        for name in (f"bulk {direction}, 1 stream", f"bulk {direction}, 16 streams"):
            floor = figures.get(f"{name}: HAProxy")
            if floor:
                ratio = statistics.median(figures[name]["CPU-s/GB"]) / statistics.median(floor["CPU-s/GB"])
                results[name]["CPU, times HAProxy's"] = round(ratio, 2)
        results[f"bulk {direction}: the reference client"] = QUOTED[direction]
    return results


async def _measure(place: Rig, seconds: float, warm: float = 1.0) -> tuple[dict[str, Any], float, float]:
    """Return what the node saw in ``seconds``, the time that it took, and the relay's CPU-seconds."""
    await asyncio.sleep(warm)
    loop = asyncio.get_running_loop()
    await place.node.order("take")
    cpu, start = cpu_seconds(place.relay.pid), loop.time()
    await asyncio.sleep(seconds)
    taken = await place.node.order("take")
    return taken, loop.time() - start, cpu_seconds(place.relay.pid) - cpu


async def bulk(place: Rig, mode: str, streams: int, seconds: float) -> dict[str, float]:
    """Full speed in one direction."""
    await place.node.order("open", mode=mode, count=streams)
    taken, elapsed, cpu = await _measure(place, seconds)
    await place.node.streams_gone()
    gigabytes = sum(taken["carried"]) / GB
    return {"MB/s": 1000 * gigabytes / elapsed, "CPU-s/GB": cpu / gigabytes}


async def echo(place: Rig, streams: int, seconds: float, pace: float = 0.0) -> dict[str, float]:
    """64 bytes there and back, the next as soon as the last is back (or every ``pace`` seconds)."""
    await place.node.order("open", mode="E", count=streams, pace=pace)
    taken, elapsed, cpu = await _measure(place, seconds, 1.5)
    await place.node.streams_gone()
    trips = taken["round_trips"]
    return {
        "round trips/s": trips / elapsed,
        "p50 ms": taken["p50"] * 1000,
        "p99 ms": taken["p99"] * 1000,
        "CPU µs each": cpu / trips * 1e6,
    }


async def short(place: Rig, seconds: float, at_once: int = 64) -> dict[str, float]:
    """Connect, one byte there, 200 bytes back, end; each that ends is followed by the next."""
    await place.node.order("open", mode="S", count=at_once)
    taken, elapsed, cpu = await _measure(place, seconds)
    await place.node.streams_gone()
    return {"connections/s": taken["finished"] / elapsed, "CPU µs each": cpu / taken["finished"] * 1e6}


async def idle(streams: int = IDLE_STREAMS) -> dict[str, Any]:
    """Memory of streams that do nothing."""
    async with rig() as place:
        await place.node.order("open", mode="E", count=100, pace=1000.0)
        await asyncio.sleep(1)
        await place.node.streams_gone()
        before = memory(place.relay.pid)
        for _ in range(streams // 500):
            await place.node.order("open", mode="E", count=500, pace=1000.0)
            await asyncio.sleep(1)
        live = (await place.node.order("take"))["streams"]
        grown = memory(place.relay.pid) - before
        return {
            "streams": live,
            "before, MiB": round(before / 2**20, 1),
            "growth, MiB": round(grown / 2**20, 1),
            "KiB a stream": round(grown / live / 1024, 2),
        }


async def fairness(runs: int, seconds: float) -> dict[str, Any]:
    """200 interactive streams, each a round trip every 50 ms, alone and beside a bulk download of the same session."""
    results: dict[str, Figures] = {}
    async with rig() as place:
        for _ in range(runs):
            for name, beside in (("alone", 0), ("beside a bulk download", 1)):
                if beside:
                    await place.node.order("open", mode="D", count=beside)
                for unit, value in (await echo(place, INTERACTIVE, seconds, PACE)).items():
                    results.setdefault(name, {}).setdefault(unit, []).append(value)
    spread: dict[str, Any] = {name: _spread(values) for name, values in results.items()}
    medians = [statistics.median(values["p99 ms"]) for values in results.values()]
    spread["p99 beside, times alone"] = round(medians[1] / medians[0], 2)
    return spread


async def workers(runs: int, seconds: float) -> dict[str, Any]:
    """Bulk downloads over two backends, carried by one worker and by two.

    On a machine with two cores the nodes and the targets take as much of them as the relay does, so that the sum of
    MB/s can not double whatever the relay does. What tells is what a GB costs: two workers that pay no more for it than
    one does carry twice as much where they have a core each. That capacity is what is compared.
    """
    costs: dict[int, list[float]] = {1: [], 2: []}
    results: dict[str, Any] = {}
    for _ in range(runs):
        for count in (1, 2):
            async with rig("--workers", str(count), backends=2) as place:
                for node in place.nodes:
                    await node.order("open", mode="D", count=4)
                await asyncio.sleep(1)
                for node in place.nodes:
                    await node.order("take")
                cpu, start = cpu_seconds(place.relay.pid), time.monotonic()
                await asyncio.sleep(seconds)
                elapsed, cpu = time.monotonic() - start, cpu_seconds(place.relay.pid) - cpu
                carried = [sum((await node.order("take"))["carried"]) / GB for node in place.nodes]
                costs[count].append(cpu / sum(carried))
                figures = results.setdefault(f"{count} worker{'s' if count > 1 else ''}", {})
                for unit, value in (
                    ("MB/s", 1000 * sum(carried) / elapsed),
                    ("CPU-s/GB", cpu / sum(carried)),
                    ("share of the smaller half", min(carried) / sum(carried)),
                ):
                    figures.setdefault(unit, []).append(value)
    spread: dict[str, Any] = {name: _spread(figures) for name, figures in results.items()}
    spread["capacity on two cores, times one worker's"] = round(
        2 * statistics.median(costs[1]) / statistics.median(costs[2]), 2
    )
    return spread


def _spread(values: Figures) -> dict[str, Any]:
    """Median, and the least and the most beside it: the machine's noise."""
    return {
        unit: f"{_short(statistics.median(found))}  ({_short(min(found))} to {_short(max(found))})"
        for unit, found in values.items()
    }


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
