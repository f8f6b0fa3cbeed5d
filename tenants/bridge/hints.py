"""Hints that there is a new generation, from the channel layer's Redis. They wake the follower and say nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Callable
from typing import Any, Final

from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from relay.logs import Outage, get_logger
from tenants.tasks import GROUP

FIRST_DELAY: Final = 0.1
"""Seconds before the first attempt to subscribe again; doubles up to `LONGEST_DELAY`."""

LONGEST_DELAY: Final = 2.0
CONNECT_TIMEOUT: Final = 2.0

log = get_logger("tenants.bridge")


async def listen(wake: Callable[[], None]) -> None:
    """Call ``wake`` for every hint, and whenever hints may have been missed; runs until it is cancelled.

    Redis may be killed and started again at any time: the log says so once, and once when hints arrive again.
    """
    trouble = _Trouble()
    logger = logging.getLogger("channels_redis.pubsub")
    logger.addFilter(trouble)
    outage = Outage(
        log,
        "hints of new generations do not arrive: the registry is polled",
        "hints of new generations arrive again",
    )
    delay = FIRST_DELAY
    try:
        while True:
            layer = _own_layer()
            try:
                trouble.happened.clear()
                channel = await layer.new_channel()
                await layer.group_add(GROUP, channel)
                outage.ends()
                delay = FIRST_DELAY
                wake()
                await _receive(layer, channel, wake, trouble.happened)
                problem = trouble.problem
            except Exception as error:  # Redis can fail in many ways; polling goes on without hints
                problem = type(error).__name__
            finally:
                with contextlib.suppress(Exception):
                    await layer.flush()
            outage.begins(problem=problem)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
    finally:
        logger.removeFilter(trouble)


async def _receive(layer: Any, channel: str, wake: Callable[[], None], trouble: asyncio.Event) -> None:
    """Wake for every message until there is trouble."""

    async def take() -> None:
        while True:
            await layer.receive(channel)
            wake()

    tasks = [asyncio.create_task(take()), asyncio.create_task(trouble.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    if failures:
        raise failures[0]


def _own_layer() -> Any:
    """Return a layer like the project's with a connection of its own, which fails at once instead of retrying inside.

    It hides a lost connection and retries it for seconds; the back-off here is better.
    """
    config = copy.deepcopy(channel_layers.configs["default"].get("CONFIG", {}))
    for host in config.get("hosts", []):
        host["retry"] = Retry(NoBackoff(), 0)
        host.setdefault("socket_connect_timeout", CONNECT_TIMEOUT)
    return RedisPubSubChannelLayer(**config)


class _Trouble(logging.Filter):
    """Filter that catches the layer's reports of a lost connection, which it only logs, with tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.happened = asyncio.Event()
        self.problem = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the trouble instead of logging it."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        self.problem = type(error).__name__
        self.happened.set()
        return False
