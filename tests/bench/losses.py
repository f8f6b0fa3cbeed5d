"""What must not be lost, at full size, through the development node with its lane of 256 messages."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from tests.support.lab import HOST, Lab, lab
from tests.support.pattern import pattern, pattern_chunks, pattern_hash
from tests.support.targets import HttpTarget
from tests.support.users import TcpUser, request_head, upload

MB = 1_000_000
CHUNK = 128 * 1024


async def paced_upload(port: int, size: int, rate: float) -> bool:
    """Upload ``size`` bytes at ``rate`` bytes a second; return whether the target said that it has them all."""
    loop, sent = asyncio.get_running_loop(), 0
    async with asyncio.timeout(300), TcpUser(port) as user:
        try:
            await user.send(request_head(HOST, f"/sink/{size}", "PUT"))
            start = loop.time()
            for chunk in pattern_chunks(size):
                await user.send(chunk)
                sent += len(chunk)
                await asyncio.sleep(max(0.0, start + sent / rate - loop.time()))
            return (await user.reader.read()).startswith(b"OK")
        except (ConnectionError, RuntimeError):  # uvloop raises the latter for a connection that has gone
            return False


async def storms() -> dict[str, Any]:
    """Many uploads at once, and one at full speed again and again: users whose connection was lost."""
    results: dict[str, Any] = {}
    async with HttpTarget() as target, lab(target.address) as place:
        for users, rate, seconds in ((32, 10 * MB, 4), (64, 2 * MB, 4)):
            for run in (1, 2):
                whole = await storm(place, target, users, rate, int(rate * seconds))
                results[f"{users} users at {rate // MB} MB/s, run {run}: lost"] = f"{users - whole} of {users}"
        whole = 0
        for _ in range(50):
            whole += (await upload(place.http_port, HOST, 20 * MB)).startswith(b"OK")
        results["one upload at full speed: lost"] = f"{50 - whole} of 50"
    return results


async def storm(place: Lab, target: HttpTarget, users: int, rate: float, size: int) -> int:
    """Return how many of the uploads arrived whole, by hash."""
    target.sinks.clear()
    done = await asyncio.gather(*(paced_upload(place.http_port, size, rate) for _ in range(users)))
    return min(sum(done), Counter(target.sinks)[pattern_hash(size)])


async def responses(count: int = 10_000, at_once: int = 50) -> dict[str, Any]:
    """Responses of 0 to 300 KB that end with the connection, to slow and fast readers."""
    figures: Counter[str] = Counter()
    slots = asyncio.Semaphore(at_once)

    async def one(place: Lab, size: int, slow: bool) -> None:
        async with slots:
            whole = await read_response(place.http_port, size, slow=slow)
            figures["whole" if whole else "not whole"] += 1

    async with HttpTarget() as target, lab(target.address) as place:
        await asyncio.gather(*(one(place, random.randrange(300_001), number % 5 == 0) for number in range(count)))
    return {"responses": count, "whole": figures["whole"], "not whole": figures["not whole"]}


async def read_response(port: int, size: int, *, slow: bool) -> bool:
    """Ask for ``size`` bytes and read to the end of the connection; return whether they are the right ones."""
    received = bytearray()
    async with asyncio.timeout(120), TcpUser(port) as user:
        await user.send(request_head(HOST, f"/source/{size}", headers={"Connection": "close"}))
        try:
            while data := await user.reader.read(4096 if slow else 1 << 18):
                received += data
                if slow:
                    await asyncio.sleep(0.001)
        except (ConnectionError, RuntimeError):  # uvloop raises the latter for a connection that has gone
            return False
    return bytes(received) == pattern(size)
