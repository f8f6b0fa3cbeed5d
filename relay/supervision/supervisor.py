"""Reconciles what runs with the newest configuration: desired against actual, never a patch."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from relay.config import BackendConfig, RelayConfig, Removal, RemovalMode
from relay.config.access import Access
from relay.config.port_options import AccessList
from relay.connect_handler import ConnectHandler, ConnectRequest, NoRoute, Upstream
from relay.events import EventCallback, guarded
from relay.limits.admission import Admission
from relay.limits.quota import Allowance, Gate, ProcessBounds
from relay.logs import Once, get_logger
from relay.sessions.session import ReadBuffers, Session, SessionEnv
from relay.sessions.socks import SocksServer
from relay.sessions.streams import Stream
from relay.sessions.uplink import Status, Uplink
from relay.sessions.usage import Usage, UsageBook
from relay.supervision.draining import RouteDrain, drain_seconds
from relay.supervision.stats import RelayStats, backend_stats
from relay.targets.balancing import Balancer, checks_of
from relay.targets.dialing import Dialer
from relay.targets.health import TargetStatus
from relay.targets.resolver import Resolver
from relay.targets.tenant_targets import TenantTargets
from relay.tokens.sources import TokenSource, token_source

OPENING_AT_ONCE: Final = 64
"""Sessions that are being opened to one node address at a time."""

RETRY_AFTER: Final = 30.0
"""Seconds after which what broke while a configuration was followed is tried again, where no newer one comes."""

_log = get_logger("relay.supervision.supervisor")


class BackendRunner:
    """One backend: its newest configuration and a uplink for each of its nodes. It serves from `resume` on.

    Each step may be taken again where it broke half-way.
    """

    def __init__(self, supervisor: Supervisor, config: BackendConfig) -> None:
        self.config = config
        self._taken = config
        """The last configuration that was taken to the end."""
        self.behind = True
        """It does not serve, or not all of its configuration has been taken: `resume` does."""
        self._supervisor = supervisor
        self._source: TokenSource = token_source(config)
        self.uplinks: dict[str, Uplink] = {}
        self._leaving: dict[str, Uplink] = {}
        """By node: uplinks that drain, or did; one that still does is taken back where its node comes back."""
        self._allowance = Allowance(f"backend {config.name}", config.limits)
        self._gate = self._make_gate()
        self._own_usage = Usage()
        self.tenant_targets: TenantTargets
        self._balancer: Balancer
        self._use_tenant(config.tenant)
        self._env = SessionEnv(
            backend=lambda: self.config,
            source=lambda: self._source,
            route=self._route,
            dialer=lambda: self.tenant_targets.dialer,
            opening=supervisor.opening,
            once=supervisor.once,
            buffers=supervisor.buffers,
            access=self._ready_access,
            gate=lambda: self._gate,
            live=supervisor.live,
            sessions=supervisor.alive,
            usage=self._usage,
            emit=supervisor.emit,
        )
        self._socks: SocksServer | None = None
        self._access: dict[int, Access] = {}
        self._route_drain = RouteDrain(self._has_route)

    def update(self, config: BackendConfig, removal: Removal | None = None) -> None:
        """Take a newer configuration. Routes serve the next stream, credentials the next token.

        Args:
            removal: how the streams of routes go that are no longer there; None for the configuration's own.
        """
        old, self.config = self._taken, config
        self.behind = True
        self._allowance.owner = f"backend {config.name}"
        self._allowance.change(config.limits)
        moved = config.tenant != old.tenant
        if moved:
            self._gate = self._make_gate()
            self.tenant_targets.health.follow(config.key, ())
            self._use_tenant(config.tenant)
        self._supervisor.tenant_allowance(config)
        self.limits_changed()
        credential = (config.credential, config.attestation, config.name)
        if credential != (old.credential, old.attestation, old.name):
            self._source = token_source(config)
            identity_changed = True
        else:
            identity_changed = config.claims != old.claims
        if identity_changed:
            for uplink in self.uplinks.values():
                uplink.changed()
        if moved or config.routes != old.routes or config.target_policies != old.target_policies:
            self.tenant_targets.health.follow(config.key, checks_of(config.routes, config.target_policies))
        if config.routes != old.routes or config.removal != old.removal:
            self._drain_removed_routes(removal)
        self._reconcile_nodes()
        self._reconcile_socks()
        self._taken, self.behind = config, False

    def _use_tenant(self, tenant: str) -> None:
        self.tenant_targets = self._supervisor.tenant_targets(tenant)
        self._balancer = Balancer(
            self.tenant_targets.dialer, self.tenant_targets.health, lambda: self.config.target_policies
        )

    def _drain_removed_routes(self, removal: Removal | None) -> None:
        seconds = self._supervisor.drain_seconds(removal or self.config.removal)
        lost = self._route_drain.routes_changed(self._routed_streams(), seconds)
        if lost:
            _log.info(
                "streams have lost their route",
                backend=self.config.name,
                tenant=self.config.tenant or None,
                streams=lost,
                drain_seconds=seconds,
            )

    def stop(self, removal: Removal) -> None:
        """End all sessions, and their streams as ``removal`` says."""
        self.behind = True
        for uplink in self.uplinks.values():
            self._supervisor.drain(uplink, removal, self.config.key)
        self._leaving |= self.uplinks
        self.uplinks = {}
        self._route_drain.stop()
        self.tenant_targets.health.follow(self.config.key, ())
        if self._socks is not None:
            self._socks.close()
            self._socks = None

    def resume(self, config: BackendConfig, removal: Removal | None = None) -> None:
        """Serve, for the first time or again after `stop`: sessions that still drain go on, with all their streams."""
        self._reconcile_nodes()
        self.tenant_targets.health.follow(config.key, checks_of(config.routes, config.target_policies))
        self.update(config, removal)
        self._drain_removed_routes(removal)  # routes may have been removed before the backend was

    def all_uplinks(self) -> list[Uplink]:
        """Return those that serve, and those that drain."""
        return [*self.uplinks.values(), *(k for k in self._leaving.values() if self._supervisor.stops(k))]

    @property
    def drains(self) -> bool:
        """Some of its sessions are on their way out."""
        return any(self._supervisor.stops(uplink) for uplink in self._leaving.values())

    def _reconcile_socks(self) -> None:
        wanted = self.config.socks5_listen
        if self._socks is not None and self._socks.address != wanted:
            self._socks.close()
            self._socks = None
        if self._socks is None and wanted:
            self._socks = SocksServer(wanted, self._outbound_session, self._supervisor.socks5_beyond_loopback)

    def _outbound_session(self) -> Session | None:
        sessions = [uplink.current for uplink in self.uplinks.values() if uplink.current is not None]
        return min(sessions, key=lambda session: session.streams, default=None)

    def _reconcile_nodes(self) -> None:
        wanted = {node.address: node for node in self.config.nodes}
        # Whoever wants what is removed to end at once means backends and routes; moving to another node cuts nobody.
        removal = self.config.removal if self.config.removal.mode is RemovalMode.DRAIN else Removal()
        for address in self.uplinks.keys() - wanted.keys():
            uplink = self._leaving[address] = self.uplinks.pop(address)
            self._supervisor.drain(uplink, removal)
        for address, node in wanted.items():
            known = self.uplinks.get(address) or self._take_back(address)
            if known is None:
                known = Uplink(self._env, node)
                known.start()
            elif known.node != node:
                known.node = node
                known.changed()
            self.uplinks[address] = known

    def _take_back(self, address: str) -> Uplink | None:
        uplink = self._leaving.pop(address, None)
        return uplink if uplink is not None and self._supervisor.take_back(uplink) else None

    async def _route(self, request: ConnectRequest) -> Upstream:
        handler = self._supervisor.handler
        if handler is not None:
            try:
                async with asyncio.timeout(self.tenant_targets.dialer.timeout):
                    return await handler(request)
            except NoRoute:
                pass
        route = self.config.routes.match(request.port, request.hostname, request.transport)
        if route is None:
            raise NoRoute
        return self._balancer.dial(request, route)

    def _usage(self) -> Usage:
        book = self._supervisor.usage
        return self._own_usage if book is None else book.of(self.config.key)

    def _make_gate(self) -> Gate:
        tenant = self._supervisor.tenant_allowance(self.config)
        allowances = [self._allowance] if tenant is None else [self._allowance, tenant]
        return Gate(allowances, partial(self._supervisor.admission.refusal, self.config.tenant))

    def limits_changed(self) -> None:
        """The limits of the backend or of its tenant may have changed."""
        self._gate.changed()

    def _ready_access(self, rules: AccessList) -> Access:
        # By identity: comparing a long list costs as much as asking it.
        known = self._access.get(id(rules))
        if known is None or known.rules is not rules:
            if len(self._access) >= 64:
                self._access.clear()  # of older configurations, most of them
            known = self._access[id(rules)] = Access(rules)
        return known

    def _has_route(self, stream: Stream) -> bool:
        request = stream.request
        return request is not None and (
            self.config.routes.match(request.conn_port, request.hostname, request.transport) is not None
        )

    def _routed_streams(self) -> Iterator[Stream]:
        """Yield the streams that the route table sent somewhere, not those of connect handlers and of SOCKS users."""
        for uplink in (*self.uplinks.values(), *self._leaving.values()):
            for session in uplink.sessions():
                for stream in session.live:
                    if stream.routed:
                        yield stream


@dataclass(slots=True)
class _Stopping:
    """A uplink that is on its way out."""

    task: asyncio.Task[None]
    since: float
    backend: str = ""
    """Key of the removed backend that it belonged to; empty for a node that was taken from its backend."""


class Supervisor:
    """All backends of a relay.

    Args:
        handler: decides where streams go, before the configured routes.
        drain: seconds that live streams of what was removed may go on.
        bounds: what the process holds at most.
        socks5_beyond_loopback: SOCKS5 listeners may be reached from other machines.
        on_event: is told of sessions and streams.
        usage: where what is carried is counted; None where nobody reads it.
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
    ) -> None:
        self.handler = handler
        self.socks5_beyond_loopback = socks5_beyond_loopback
        self._tenants: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        self._resolver = Resolver()
        self._tenant_targets: WeakValueDictionary[str, TenantTargets] = WeakValueDictionary()
        self._dialers: WeakValueDictionary[str, Dialer] = WeakValueDictionary()
        """They outlive their tenants' backends while something is looked up."""
        self.once = Once()
        self.emit = None if on_event is None else guarded(on_event, self.once)
        self.buffers = ReadBuffers()
        self.usage = usage
        self.live: set[Stream] = set()
        """Streams that hold or dial a target."""
        self.alive: set[Session] = set()
        """All sessions that live, those on their way out too."""
        self.admission = Admission(bounds or ProcessBounds(), self.live, self.alive, lambda: len(self._tenant_targets))
        self._opening: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._drain = drain
        self._runners: dict[str, BackendRunner] = {}
        self._leaving: dict[str, BackendRunner] = {}
        """Backends that were removed and still drain, by key."""
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
            self._again = asyncio.get_running_loop().call_later(RETRY_AFTER, self.apply, config, removal)
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
                retry_in_seconds=RETRY_AFTER,
            )

    def _cancel_retry(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _remove(self, key: str, removal: Removal | None) -> str:
        gone = self._runners[key]
        gone.stop(removal or gone.config.removal)
        del self._runners[key]
        if gone.drains:
            self._leaving[key] = gone
        return "removed"

    def _serve(self, key: str, backend: BackendConfig, removal: Removal | None) -> str:
        runner = self._runners.get(key)
        if runner is not None and not runner.behind:
            runner.update(backend, removal)
            return "changed"
        step = "added" if runner is None else "changed"
        if runner is None:
            back = self._leaving.pop(key, None)
            runner = self._runners[key] = back if back is not None and back.drains else BackendRunner(self, backend)
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
            known = self._tenant_targets[tenant] = TenantTargets(self._resolver, tenant, self._dialers.get(tenant))
            self._dialers[tenant] = known.dialer
        return known

    def targets(self, backend: str | None = None) -> list[TargetStatus]:
        """Return what the health checks say, of all targets or of those of one backend (by its key)."""
        if backend is not None:
            runner = self._runners.get(backend) or self._leaving.get(backend)
            return [] if runner is None else runner.tenant_targets.health.statuses(backend)
        found = (status for targets in self._tenant_targets.values() for status in targets.health.statuses())
        return sorted(found, key=lambda status: (status.target, status.interval))

    def opening(self, address: str) -> asyncio.Semaphore:
        """Return what bounds how many sessions to a node are opened at once."""
        return self._opening.setdefault(address, asyncio.Semaphore(OPENING_AT_ONCE))

    def drain_seconds(self, removal: Removal) -> float:
        """Return for how long the streams of what is removed may go on."""
        return drain_seconds(removal, self._drain)

    def drain(self, uplink: Uplink, removal: Removal, backend: str = "") -> None:
        """End a uplink in the background.

        Args:
            backend: key of the backend that goes with it.
        """
        self._stop_keeper(uplink, self.drain_seconds(removal), backend)

    def stops(self, uplink: Uplink) -> bool:
        """Say whether a uplink is on its way out."""
        return uplink in self._stopping

    def take_back(self, uplink: Uplink) -> bool:
        """Let a uplink serve on that is on its way out. Say whether it was in time."""
        stopping = self._stopping.get(uplink)
        if stopping is None or not uplink.resume(stopping.task):
            return False
        del self._stopping[uplink]
        return True

    def _hurry(self, config: RelayConfig) -> None:
        """Follow edits of how backends go that are on their way out: who drains one may still come to end it."""
        now = asyncio.get_running_loop().time()
        for uplink, stopping in list(self._stopping.items()):
            removal = config.removals.get(stopping.backend)
            if removal is not None and removal != self._removals.get(stopping.backend):
                left = max(0.0, stopping.since + self.drain_seconds(removal) - now)
                self._stop_keeper(uplink, left, stopping.backend)
        self._removals = config.removals

    async def stop(self, drain: float) -> None:
        """End everything: refuse new streams, wait up to ``drain`` seconds for live ones, close cleanly.

        A second call shortens the first.
        """
        self._cancel_retry()
        for runner in self._runners.values():
            with self._containing(runner.config):
                runner.stop(Removal())
        self._runners = {}
        self._leaving = {}
        await asyncio.gather(
            *[self._stop_keeper(uplink, drain) for uplink in list(self._stopping)], return_exceptions=True
        )
        for stream in list(self.live):
            stream.abort()
        self._resolver.close()

    def _stop_keeper(self, uplink: Uplink, seconds: float, backend: str = "") -> asyncio.Task[None]:
        earlier = self._stopping.get(uplink)
        if earlier is not None:
            earlier.task.cancel()
        task = asyncio.create_task(uplink.stop(seconds))
        since = earlier.since if earlier is not None else asyncio.get_running_loop().time()
        self._stopping[uplink] = _Stopping(task, since, backend)

        def forget(done: asyncio.Task[None]) -> None:
            stopping = self._stopping.get(uplink)
            if stopping is not None and stopping.task is done:
                del self._stopping[uplink]
                gone = self._leaving.get(stopping.backend)
                if gone is not None and not gone.drains:
                    del self._leaving[stopping.backend]

        task.add_done_callback(forget)
        return task

    def uplinks(self) -> Iterator[tuple[BackendConfig, Uplink]]:
        """Yield every uplink that serves, with its backend."""
        for runner in self._runners.values():
            for uplink in runner.uplinks.values():
                yield runner.config, uplink

    def sessions(self) -> Iterator[tuple[BackendConfig, Session]]:
        """Yield every session that lives, those on their way out too, with its backend."""
        for runner in (*self._runners.values(), *self._leaving.values()):
            for uplink in runner.all_uplinks():
                for session in uplink.sessions():
                    yield runner.config, session

    def stats(self) -> RelayStats:
        """Return what everything is doing; what drains on its way out is in it."""
        found = tuple(
            backend_stats(runner.config, runner.all_uplinks(), runner.tenant_targets.health.statuses(key))
            for key, runner in (self._runners | self._leaving).items()
        )
        return RelayStats(
            self.generation,
            sum(len(session.streams) for backend in found for session in backend.sessions),
            found,
        )

    def statuses(self) -> Iterator[tuple[BackendConfig, Status]]:
        """Yield what every uplink is doing."""
        for backend, uplink in self.uplinks():
            yield backend, uplink.status()
