"""What runs, made to follow the newest configuration: desired against actual, never a patch."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from relay.config import BackendConfig, RelayConfig, Removal
from relay.connect_handler import ConnectHandler
from relay.events import EventCallback, guarded
from relay.limits.admission import Admission
from relay.limits.quota import Allowance, ProcessBounds
from relay.logs import Once, get_logger
from relay.network.names import Names
from relay.network.resolver import Resolver
from relay.sessions.host import Shared
from relay.sessions.snapshot import SessionSnapshot, UplinkSnapshot
from relay.sessions.uplink import Uplink
from relay.sessions.usage import SessionBook, UsageBook
from relay.supervision.backend_runner import BackendRunner
from relay.supervision.draining import drain_seconds
from relay.supervision.stats import RelayStats, backend_stats
from relay.targets.health import TargetStatus
from relay.targets.tenant_targets import TenantTargets
from relay.timings import Timings
from relay.transport.opening import NodeDialer

NODES_AT_ONCE: Final = 64
"""Names of nodes that are looked up at a time."""

SLOW_NODES_AT_ONCE: Final = 192
"""Further ones that the resolver gives no prompt answer for."""

PAST_BACKENDS: Final = 1000
"""Removed backends whose counts are kept for their return."""

_log = get_logger("relay.supervision.supervisor")


@dataclass(slots=True)
class _Stopping:
    """An uplink that is on its way out."""

    task: asyncio.Task[None]
    since: float
    backend: str
    """Key of the backend that it belongs to."""
    removed: bool
    """The backend is removed, not only its node."""


class Supervisor:
    """All backends of a relay.

    Args:
        handler: decides where streams go, before the configured routes.
        drain: seconds that live streams of what was removed may go on.
        bounds: what the process holds at most.
        socks5_beyond_loopback: SOCKS5 listeners may be reached from other machines.
        on_event: is told of sessions and streams.
        usage: where what is carried is counted; None where nothing reads it.
        timings: how long what it runs waits.
        node_proxy: see `relay.transport.opening.NodeDialer`.
    """

    def __init__(
        self,
        handler: ConnectHandler | None,
        drain: float,
        bounds: ProcessBounds | None = None,
        *,
        socks5_beyond_loopback: bool = False,
        on_event: EventCallback | None = None,
        usage: UsageBook | None = None,
        timings: Timings = Timings(),
        node_proxy: str = "",
    ) -> None:
        self.handler = handler
        self.socks5_beyond_loopback = socks5_beyond_loopback
        self._tenants: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        self._resolver = Resolver()
        self._tenant_targets: WeakValueDictionary[str, TenantTargets] = WeakValueDictionary()
        self._names: WeakValueDictionary[str, Names] = WeakValueDictionary()
        """They outlive their tenants' backends while something is looked up."""
        once = Once()
        self._node_resolver = Resolver()
        names = Names(self._node_resolver.look_up, timings, NODES_AT_ONCE, SLOW_NODES_AT_ONCE)
        nodes = NodeDialer(names, timings, node_proxy)
        self.shared = Shared(timings, once, None if on_event is None else guarded(on_event, once), nodes)
        self.usage = usage
        self._admission = Admission(
            bounds or ProcessBounds(),
            self.shared.streams,
            self.shared.sessions,
            lambda: len(self._tenant_targets),
            timings,
        )
        self.no_room = self._admission.refusal
        self._drain = drain
        self._runners: dict[str, BackendRunner] = {}
        self._leaving: dict[str, BackendRunner] = {}
        """Backends that were removed and still drain, by key."""
        self._past: dict[str, SessionBook] = {}
        """What removed backends have counted, those that were removed first in front."""
        self._stopping: dict[Uplink, _Stopping] = {}
        self._removals: Mapping[str, Removal] = {}
        self._differing: set[str] = set()
        """Tenants whose limits differ from what the gates of their backends know, until a configuration is taken."""
        self._broken = False
        """A step of the last `apply` broke."""
        self._again: asyncio.TimerHandle | None = None
        self.generation = 0

    def apply(self, config: RelayConfig, removal: Removal | None = None) -> None:
        """Make what runs follow ``config``. Returns at once; sessions come and go in their own time.

        Args:
            removal: how the streams of backends and routes go that are no longer there, whatever ``config`` says of it.
        """
        self._cancel_retry()
        self._broken = False
        steps: Counter[str] = Counter()
        self._hurry(config)
        for key in self._runners.keys() - config.backends.keys():
            with self._containing(self._runners[key].config):
                steps[self._remove(key, removal or config.removals.get(key))] += 1
        for key, backend in config.backends.items():
            runner = self._runners.get(key)
            if runner is None or runner.behind or (runner.config is not backend and runner.config != backend):
                with self._containing(backend):
                    steps[self._serve(key, backend, removal)] += 1
        if self._differing:
            for runner in self._runners.values():
                if runner.config.tenant in self._differing:
                    with self._containing(runner.config):
                        runner.limits_changed()
            if not self._broken:
                self._differing.clear()
        self.generation = config.generation
        if self._broken:
            self._again = asyncio.get_running_loop().call_later(
                self.shared.timings.reapply_after, self.apply, config, removal
            )
        if steps:
            _log.info(
                "configuration applied",
                generation=config.generation,
                added=steps["added"],
                changed=steps["changed"],
                removed=steps["removed"],
                backends=len(self._runners),
            )

    @contextlib.contextmanager
    def _containing(self, backend: BackendConfig) -> Iterator[None]:
        """Keep what breaks in a step of one backend from all others; the step is taken again later."""
        try:
            yield
        except Exception:
            self._broken = True
            _log.exception(
                "backend could not follow its configuration",
                backend=backend.name,
                tenant=backend.tenant or None,
                retry_in_seconds=self.shared.timings.reapply_after,
            )

    def _cancel_retry(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _remove(self, key: str, removal: Removal | None) -> str:
        gone = self._runners[key]
        gone.stop(removal or gone.config.removal)
        del self._runners[key]
        self._past[key] = gone.session_book
        if len(self._past) > PAST_BACKENDS:
            del self._past[next(iter(self._past))]
        if gone.drains:
            self._leaving[key] = gone
        else:
            gone.ended()
        return "removed"

    def _serve(self, key: str, backend: BackendConfig, removal: Removal | None) -> str:
        runner = self._runners.get(key)
        if runner is not None and not runner.behind:
            runner.update(backend, removal)
            return "changed"
        step = "added" if runner is None else "changed"
        if runner is None:
            back = self._leaving.pop(key, None)
            book = self._past.pop(key, None) or SessionBook()
            runner = back if back is not None and back.drains else BackendRunner(self, backend, book)
            self._runners[key] = runner
        runner.resume(backend, removal)
        return step

    def tenant_allowance(self, backend: BackendConfig) -> Allowance | None:
        """Return what all backends of the backend's tenant share, with its newest limits; None where it has none."""
        if not backend.tenant:
            return None
        known = self._tenants.get(backend.tenant)
        if known is None:
            known = self._tenants[backend.tenant] = Allowance(f"tenant {backend.tenant}", backend.tenant_limits)
        elif known.change(backend.tenant_limits):
            self._differing.add(backend.tenant)
        return known

    def tenant_targets(self, tenant: str) -> TenantTargets:
        """Return what all backends of a tenant dial with; those without one share theirs."""
        known = self._tenant_targets.get(tenant)
        if known is None:
            known = self._tenant_targets[tenant] = TenantTargets(
                self._resolver, tenant, self._names.get(tenant), self.shared.timings
            )
            self._names[tenant] = known.names
        return known

    def targets(self, backend: str | None = None) -> list[TargetStatus]:
        """Return what the health checks say, of all targets or of those of one backend (by its key)."""
        if backend is not None:
            runner = self._runners.get(backend) or self._leaving.get(backend)
            return [] if runner is None else runner.tenant_targets.health.statuses(backend)
        found = (status for targets in self._tenant_targets.values() for status in targets.health.statuses())
        return sorted(found, key=lambda status: (status.target, status.interval))

    def drain_seconds(self, removal: Removal) -> float:
        """Return for how long the streams of what is removed may go on."""
        return drain_seconds(removal, self._drain)

    def drain(self, uplink: Uplink, removal: Removal, backend: str, *, removed: bool) -> None:
        """End an uplink in the background.

        Args:
            backend: key of its backend.
            removed: the backend goes with it.
        """
        self._stop_uplink(uplink, self.drain_seconds(removal), backend, removed=removed)

    def stops(self, uplink: Uplink) -> bool:
        """Say whether an uplink is on its way out."""
        return uplink in self._stopping

    def take_back(self, uplink: Uplink) -> bool:
        """Let an uplink serve on that is on its way out. Say whether it was in time."""
        stopping = self._stopping.get(uplink)
        if stopping is None or not uplink.resume(stopping.task):
            return False
        del self._stopping[uplink]
        return True

    def _hurry(self, config: RelayConfig) -> None:
        """Follow edits of how backends go that are on their way out: who drains one may still come to end it."""
        now = asyncio.get_running_loop().time()
        for uplink, stopping in list(self._stopping.items()):
            removal = config.removals.get(stopping.backend) if stopping.removed else None
            if removal is not None and removal != self._removals.get(stopping.backend):
                left = max(0.0, stopping.since + self.drain_seconds(removal) - now)
                self._stop_uplink(uplink, left, stopping.backend, removed=True)
        self._removals = config.removals

    async def stop(self, drain: float) -> None:
        """End everything: each session serves until a quiet instant, at most ``drain`` seconds, and closes cleanly.

        A second call shortens the first.
        """
        self._cancel_retry()
        for key, runner in self._runners.items():
            with self._containing(runner.config):
                runner.stop(Removal())
            self._leaving[key] = runner
        self._runners = {}
        stopped = [
            self._stop_uplink(uplink, drain, stopping.backend, removed=False)
            for uplink, stopping in list(self._stopping.items())
        ]
        await asyncio.gather(*stopped, return_exceptions=True)
        for runner in self._leaving.values():
            runner.ended()
        self._leaving = {}
        for stream in list(self.shared.streams):
            stream.abort()
        self._resolver.close()
        self._node_resolver.close()

    def _stop_uplink(self, uplink: Uplink, seconds: float, backend: str, *, removed: bool) -> asyncio.Task[None]:
        earlier = self._stopping.get(uplink)
        if earlier is not None:
            earlier.task.cancel()
        task = asyncio.create_task(uplink.stop(seconds))
        since = earlier.since if earlier is not None else asyncio.get_running_loop().time()
        self._stopping[uplink] = _Stopping(task, since, backend, removed)

        def forget(done: asyncio.Task[None]) -> None:
            stopping = self._stopping.get(uplink)
            if stopping is not None and stopping.task is done:
                del self._stopping[uplink]
                gone = self._leaving.get(stopping.backend)
                if gone is not None and not gone.drains:
                    del self._leaving[stopping.backend]
                    gone.ended()

        task.add_done_callback(forget)
        return task

    def uplinks(self) -> Iterator[tuple[BackendConfig, Uplink]]:
        """Yield every uplink that serves, with its backend."""
        for runner in self._runners.values():
            for uplink in runner.uplinks.values():
                yield runner.config, uplink

    def sessions(self) -> Iterator[tuple[BackendConfig, SessionSnapshot]]:
        """Yield every session that lives, those on their way out too, with its backend.

        Each is looked at when it is yielded; what ended meanwhile is left out.
        """
        found = [
            (runner, session)
            for runner in (*self._runners.values(), *self._leaving.values())
            for uplink in runner.all_uplinks()
            for session in uplink.sessions()
        ]
        for runner, session in found:
            if not session.ended.done():
                yield runner.config, session.snapshot()

    def stats(self) -> RelayStats:
        """Return what everything is doing; what drains on its way out is in it."""
        found = tuple(
            backend_stats(
                runner.config,
                runner.all_uplinks(),
                runner.tenant_targets.health.statuses(key),
                runner.session_book,
            )
            for key, runner in (self._runners | self._leaving).items()
        )
        return RelayStats(
            generation=self.generation,
            streams=sum(len(session.streams) for backend in found for session in backend.sessions),
            backends=found,
            held=len(self.shared.streams),
            sessions=len(self.shared.sessions),
            stopping=len(self._stopping),
            too_late=self.shared.too_late,
        )

    def statuses(self) -> Iterator[tuple[BackendConfig, UplinkSnapshot]]:
        """Yield what every uplink is doing, each as it is when it is yielded."""
        for backend, uplink in list(self.uplinks()):
            yield backend, uplink.status()
