"""A relay as a service: follows a source of configurations, ends on signals."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

from relay.config import RelayConfig
from relay.logs import get_logger
from relay.network_watch import watch_interfaces
from relay.orphans import reaping
from relay.relay import Relay
from relay.tasks import cancel

_log = get_logger("relay.service")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ConfigSource(Protocol):
    """Where configurations come from: each yielded one replaces the last. It outlives its own troubles."""

    def configs(self) -> AsyncIterator[RelayConfig]: ...


@runtime_checkable
class ReloadableSource(ConfigSource, Protocol):
    """A source that has something to read."""

    def reload(self) -> None:
        """Read again now, whether or not it looks changed."""


def ignore_hangup() -> None:
    """Let SIGHUP end nothing: a service manager may send it before `serve` listens."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def serve(relay: Relay, source: ConfigSource, *, lifeline: int | None = None) -> None:
    """Run a relay until a signal.

    SIGTERM or SIGINT drains: users are served until a quiet instant, for up to `Relay.drain` seconds. A second one ends
    it at once. SIGHUP has a source that can read again do so, and every back-off end: files of secrets are read for
    each token.

    Args:
        relay: one that does not run yet.
        lifeline: file descriptor of a pipe whose other end the parent holds; its end counts as a first SIGTERM.
    """
    loop = asyncio.get_running_loop()
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def on_signal(name: str) -> None:
        if stopping.is_set():
            _log.warning("second signal: stopping now", signal=name)
            hurry.set()
        else:
            _log.info("stopping: users are served until a quiet instant", signal=name, drain_seconds=relay.drain)
            stopping.set()

    def on_hangup() -> None:
        if isinstance(source, ReloadableSource):
            _log.info("reading configuration and secrets again", signal="SIGHUP")
            source.reload()
        relay.retry_now()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number.name)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if lifeline is not None:

        def parent_gone() -> None:
            loop.remove_reader(lifeline)
            if not stopping.is_set():
                on_signal("parent gone")

        loop.add_reader(lifeline, parent_gone)
    try:
        async with reaping(relay.timings.reap_every):
            await _run_until(stopping, hurry, relay, source)
    finally:
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
        ignore_hangup()
        _log.info("stopped")


async def _run_until(stopping: asyncio.Event, hurry: asyncio.Event, relay: Relay, source: ConfigSource) -> None:
    """Run a relay until it is to stop, drain it, and stop it at once where that is to be hurried."""
    await relay.start()
    following = asyncio.create_task(_follow(relay, source))
    try:
        stop_wait = asyncio.create_task(stopping.wait())
        with watch_interfaces(relay.retry_now, relay.timings.network_retry_pause):
            await asyncio.wait({following, stop_wait}, return_when=asyncio.FIRST_COMPLETED)
        stop_wait.cancel()
        if following.done():
            await following  # a source ends only by an error that nothing cures
    finally:
        await cancel(following)
        draining = asyncio.create_task(relay.stop())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not draining.done():
            await relay.stop(0)
        await asyncio.gather(draining, return_exceptions=True)


async def _follow(relay: Relay, source: ConfigSource) -> None:
    async with contextlib.aclosing(source.configs()) as configs:  # type: ignore[type-var]
        async for config in configs:
            try:
                relay.apply(config)
            except Exception:
                _log.exception("configuration could not be applied", generation=config.generation)


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each stream to a target holds one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    _allow_many_files()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
