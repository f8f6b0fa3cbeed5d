"""100 MB up and 100 MB down at once over 8 streams; and a target that reads nothing beside a full-speed download."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import Any

from tests.support.lab import HOST, WILDCARD, Lab, lab
from tests.support.pattern import pattern_chunks
from tests.support.targets import DeafTarget, HttpTarget
from tests.support.users import TcpUser, download, request_head

MB = 1_000_000
STREAMS = 8
EACH_WAY = 100 * MB
DEAF_SECONDS = 30
REAUTH_ROUNDS = 60
CHUNK = 128 * 1024  # bytes that `pattern_chunks` yields at a time


async def both_ways(dialect: str) -> dict[str, Any]:
    """Echo 100 MB over 8 streams and compare the hashes.

    Without credits nothing slows users down before the node's lane is full, so there they are also paced.
    """
    async with HttpTarget() as target, lab(target.address, dialect) as place:
        await download(place.http_port, HOST, MB)  # what is loaded once is loaded now
        if dialect == "attested":
            return await _echo_all(place, pause=0)
        return {
            "at 20 MB/s": await _echo_all(place, pause=CHUNK / (20 * MB / STREAMS)),
            "at full speed": await _echo_all(place, pause=0),
        }


async def reauth() -> dict[str, Any]:
    """Echo at full speed over 8 streams while the node asks for a new token every second and waits 2 for it.

    A challenge without its answer ends the session and cuts every stream.
    """
    async with HttpTarget() as target, lab(target.address) as place:
        await place.edit(_ask_every_second)
        assert place.relay is not None
        place.restart_relay()
        await place.until_up()
        start, whole = time.monotonic(), 0
        for _ in range(REAUTH_ROUNDS):
            whole += sum(await asyncio.gather(*(_echo(place, EACH_WAY // STREAMS, 0) for _ in range(STREAMS))))
        output = place.relay.output()
        return {
            "seconds": round(time.monotonic() - start),
            "streams whole": f"{whole} of {STREAMS * REAUTH_ROUNDS}",
            "sessions lost": output.count('"session down'),
        }


def _ask_every_second() -> None:
    from tenants.models import Credential

    Credential.objects.update(reauth_interval=1, reauth_grace=2)


async def _echo_all(place: Lab, pause: float) -> dict[str, Any]:
    memory, cpu, start = place.memory(), place.cpu_seconds(), time.monotonic()
    whole = await asyncio.gather(*(_echo(place, EACH_WAY // STREAMS, pause) for _ in range(STREAMS)))
    seconds = time.monotonic() - start
    figures = {
        "streams whole": f"{sum(whole)} of {STREAMS}",
        "relay memory growth, peak MiB": round((place.peak_memory() - memory) / 2**20, 1),
    }
    if all(whole):
        figures |= {
            "MB/s each way": round(EACH_WAY / MB / seconds, 1),
            "relay CPU-seconds per GB carried": round((place.cpu_seconds() - cpu) / (2 * EACH_WAY / 1e9), 2),
        }
    return figures


async def _echo(place: Lab, size: int, pause: float) -> bool:
    sent, received = hashlib.sha256(), hashlib.sha256()
    async with asyncio.timeout(300), TcpUser(place.http_port) as user:
        await user.send(request_head(HOST, "/echo"))

        async def send() -> None:
            for chunk in pattern_chunks(size):
                sent.update(chunk)
                await user.send(chunk)
                await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        left = size
        with contextlib.suppress(ConnectionError):
            while left and (data := await user.reader.read(min(left, 1 << 18))):
                received.update(data)
                left -= len(data)
        await asyncio.gather(sending, return_exceptions=True)
    return left == 0 and sent.digest() == received.digest()


async def deaf_target(dialect: str) -> dict[str, Any]:
    """Upload into a target that reads nothing for 30 s while another stream downloads; compare with alone."""
    async with HttpTarget() as target, DeafTarget() as deaf, lab(target.address, dialect) as place:
        await place.edit(lambda: _route_preview(deaf.address))
        alone = await _download_for(place, DEAF_SECONDS / 3)
        memory = place.memory()
        uploading = asyncio.create_task(_upload_into_nothing(place))
        beside = await _download_for(place, DEAF_SECONDS)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        return {
            "download alone, MB/s": round(alone, 1),
            "download beside it, MB/s": round(beside, 1),
            "ratio": round(beside / alone, 2),
            "relay memory growth, peak MiB": round((place.peak_memory() - memory) / 2**20, 1),
        }


async def _download_for(place: Lab, seconds: float) -> float:
    start, received = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        received += (await download(place.http_port, HOST, 50 * MB)).size
    return received / MB / (time.monotonic() - start)


async def _upload_into_nothing(place: Lab) -> None:
    """Upload without end: as fast as it goes with credits, else 2.5 MB/s, for the node's lane has no other brake."""
    pause = 0 if place.dialect == "attested" else 0.025
    while True:
        async with TcpUser(place.http_port) as user:
            await user.send(request_head("deaf.preview.example.com", "/"))
            try:
                while True:
                    await user.send(bytes(65536))
                    await asyncio.sleep(pause)
            except ConnectionError:
                await asyncio.sleep(1)  # without credits the relay gives such a stream up; the user tries again


def _route_preview(target: str) -> None:
    from tenants.models import HostRoute, PortMapping

    HostRoute.objects.create(port_mapping=PortMapping.objects.get(), pattern=WILDCARD, target=target)
