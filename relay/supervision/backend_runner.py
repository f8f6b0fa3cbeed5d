"""What runs of one backend, compared with its newest configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from relay.config import BackendConfig, Claims, Removal, RemovalMode
from relay.config.access import Access
from relay.config.hostnames import requested_name
from relay.config.port_options import AccessList
from relay.connect_handler import ConnectHandler, ConnectRequest, NoRoute, Upstream
from relay.errors import InvalidValue
from relay.limits.quota import Allowance, Gate
from relay.logs import get_logger
from relay.routing import RouteTable
from relay.sessions.host import Shared
from relay.sessions.opener import covers
from relay.sessions.session import Session
from relay.sessions.socks import SocksServer
from relay.sessions.streams import Stream
from relay.sessions.uplink import Uplink
from relay.sessions.usage import SessionBook, Usage, UsageBook
from relay.supervision.draining import RouteDrain
from relay.supervision.former_routes import FormerRoutes
from relay.targets.balancing import Balancer, checks_of
from relay.targets.dialing import Dialer
from relay.targets.tenant_targets import TenantTargets
from relay.tokens.sources import TokenSource, session_claims, token_source

_log = get_logger("relay.supervision.backend_runner")


class Surroundings(Protocol):
    """What a backend needs of the relay around it.

    Attributes:
        handler: decides where streams go, before the configured routes.
        socks5_beyond_loopback: SOCKS5 listeners may be reached from other machines.
        usage: where what is carried is counted; None where nothing reads it.
    """

    shared: Shared
    handler: ConnectHandler | None
    socks5_beyond_loopback: bool
    usage: UsageBook | None

    def tenant_allowance(self, backend: BackendConfig) -> Allowance | None:
        """Return what all backends of the backend's tenant share, with its newest limits; None where it has none."""

    def tenant_targets(self, tenant: str) -> TenantTargets:
        """Return what all backends of a tenant dial with."""

    def no_room(self, tenant: str) -> str:
        """Say why the process takes no new stream of a tenant; empty where it does."""

    def drain_seconds(self, removal: Removal) -> float:
        """Return for how long the streams of what is removed may go on."""

    def drain(self, uplink: Uplink, removal: Removal, backend: str, *, removed: bool) -> None:
        """End an uplink in the background; ``removed``: its backend goes with it."""

    def stops(self, uplink: Uplink) -> bool:
        """Say whether an uplink is on its way out."""

    def take_back(self, uplink: Uplink) -> bool:
        """Let an uplink serve on that is on its way out. Say whether it was in time."""


class BackendRunner:
    """One backend: its newest configuration and an uplink for each of its nodes; the `SessionHost` of its sessions.

    It serves from `resume` on. Each step may be taken again where it broke half-way.

    Args:
        book: counts its sessions; that of an earlier one with the same key goes on.
    """

    def __init__(self, supervisor: Surroundings, config: BackendConfig, book: SessionBook) -> None:
        self.shared = supervisor.shared
        self.config = config
        self._taken = config
        """The last configuration that was taken to the end."""
        self.behind = True
        """It does not serve, or not all of its configuration has been taken: `resume` does."""
        self._supervisor = supervisor
        self.token_source: TokenSource = token_source(config)
        self.uplinks: dict[str, Uplink] = {}
        self._leaving: dict[str, Uplink] = {}
        """By node: uplinks that drain, or did; one that still does is taken back where its node comes back."""
        self._allowance = Allowance(f"backend {config.name}", config.limits)
        self.gate = self._make_gate()
        self._own_usage = Usage()
        self.session_book = book
        self.tenant_targets: TenantTargets
        self._balancer: Balancer
        self._use_tenant(config.tenant)
        self._socks: SocksServer | None = None
        self._lists: dict[int, Access] = {}
        self._route_drain = RouteDrain(self._has_route)
        self._former = FormerRoutes(_claims(config) or config.claims, self._end_late)

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
            self.gate = self._make_gate()
            self.tenant_targets.health.follow(config.key, ())
            self._use_tenant(config.tenant)
        self._supervisor.tenant_allowance(config)
        self.limits_changed()
        credential = (config.credential, config.attestation, config.name)
        if credential != (old.credential, old.attestation, old.name):
            self.token_source = token_source(config)
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
        self._former.edited(_claims(config), old.routes, self._drain_seconds(removal))
        self._reconcile_nodes()
        self._reconcile_socks()
        self._taken, self.behind = config, False

    def _use_tenant(self, tenant: str) -> None:
        self.tenant_targets = self._supervisor.tenant_targets(tenant)
        self._balancer = Balancer(
            self.tenant_targets.dialer, self.tenant_targets.health, lambda: self.config.target_policies
        )

    def _drain_removed_routes(self, removal: Removal | None) -> None:
        seconds = self._drain_seconds(removal)
        lost = self._route_drain.routes_changed(self._routed_streams(), seconds)
        if lost:
            _log.info(
                "streams have lost their route",
                backend=self.config.name,
                tenant=self.config.tenant or None,
                streams=lost,
                drain_seconds=seconds,
            )

    def _drain_seconds(self, removal: Removal | None) -> float:
        return self._supervisor.drain_seconds(removal or self.config.removal)

    def _end_late(self) -> None:
        self._route_drain.end_late(self._routed_streams(), self._serves_still)

    def stop(self, removal: Removal) -> None:
        """End all sessions, and their streams as ``removal`` says; `ended` follows."""
        self.behind = True
        for uplink in self.uplinks.values():
            self._supervisor.drain(uplink, removal, self.config.key, removed=True)
        self._leaving |= self.uplinks
        self.uplinks = {}
        self._route_drain.stop()
        self._former.stop()
        if self._socks is not None:
            self._socks.close()
            self._socks = None

    def ended(self) -> None:
        """Its last session has closed: until then targets were dialled, and checked."""
        self.tenant_targets.health.follow(self.config.key, ())

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
            self._socks = SocksServer(
                wanted, self._outbound_session, self._supervisor.socks5_beyond_loopback, self.shared.timings
            )

    def _outbound_session(self) -> Session | None:
        sessions = [uplink.current for uplink in self.uplinks.values() if uplink.current is not None]
        return min(sessions, key=lambda session: session.streams, default=None)

    def _reconcile_nodes(self) -> None:
        wanted = {node.address: node for node in self.config.nodes}
        # "At once" is meant for backends and routes; moving to another node cuts no stream.
        removal = self.config.removal if self.config.removal.mode is RemovalMode.DRAIN else Removal()
        for address in self.uplinks.keys() - wanted.keys():
            uplink = self._leaving[address] = self.uplinks.pop(address)
            self._supervisor.drain(uplink, removal, self.config.key, removed=False)
        for address, node in wanted.items():
            known = self.uplinks.get(address) or self._take_back(address)
            if known is None:
                known = Uplink(self, node)
                known.start()
            elif known.node != node:
                known.node = node
                known.changed()
            self.uplinks[address] = known

    def _take_back(self, address: str) -> Uplink | None:
        uplink = self._leaving.pop(address, None)
        return uplink if uplink is not None and self._supervisor.take_back(uplink) else None

    def former_routes(self, request: ConnectRequest, *, removed: bool) -> RouteTable | None:
        """Return the routes that still serve what the backend no longer claims; None where it claims the name.

        Raises:
            NoRoute: it has been removed, and is served no more.
        """
        asked = request.port, request.hostname, request.transport
        found = self._former.find(*asked)
        if removed and found is None and not covers(self._former.claims, *asked):
            raise NoRoute
        return found

    async def route(self, request: ConnectRequest, former: RouteTable | None = None) -> Upstream:
        """Ask the connect handler, then the configured routes, where a stream goes.

        Raises:
            NoRoute: nowhere.
            Refused: the connect handler refuses the user.
        """
        handler = self._supervisor.handler
        if handler is not None:
            try:
                async with asyncio.timeout(self.tenant_targets.dialer.timeout):
                    upstream = await handler(request)
            except NoRoute:
                upstream = None
            if upstream is not None:
                return upstream
        route = self.config.routes.match(request.port, request.hostname, request.transport)
        if route is None and former is not None:
            route = former.match(request.port, request.hostname, request.transport)
        if route is None:
            raise NoRoute
        return self._balancer.dial(request, route)

    @property
    def dialer(self) -> Dialer:
        """What dials the targets of the backend's tenant."""
        return self.tenant_targets.dialer

    @property
    def usage(self) -> Usage:
        """Where it is counted what the backend carries."""
        book = self._supervisor.usage
        return self._own_usage if book is None else book.of(self.config.key)

    def _make_gate(self) -> Gate:
        tenant = self._supervisor.tenant_allowance(self.config)
        allowances = [self._allowance] if tenant is None else [self._allowance, tenant]
        return Gate(allowances, partial(self._supervisor.no_room, self.config.tenant))

    def limits_changed(self) -> None:
        """The limits of the backend or of its tenant may have changed."""
        self.gate.changed()

    def access(self, rules: AccessList) -> Access:
        """Return an access list, ready to be asked."""
        # By identity: comparing a long list costs as much as asking it.
        known = self._lists.get(id(rules))
        if known is None or known.rules is not rules:
            if len(self._lists) >= 64:
                self._lists.clear()  # of older configurations, most of them
            known = self._lists[id(rules)] = Access(rules)
        return known

    def _has_route(self, stream: Stream) -> bool:
        request = stream.request
        return request is not None and (
            self.config.routes.match(request.conn_port, request.hostname, request.transport) is not None
        )

    def _serves_still(self, stream: Stream) -> bool:
        request = stream.request
        name = None if request is None else requested_name(request.hostname)
        return (
            request is not None
            and name is not None
            and self._former.find(request.conn_port, name, request.transport) is not None
        )

    def _routed_streams(self) -> Iterator[Stream]:
        """Yield the streams that the route table sent somewhere, not those of connect handlers and of SOCKS users."""
        for uplink in (*self.uplinks.values(), *self._leaving.values()):
            for session in uplink.sessions():
                for stream in session.live:
                    if stream.routed:
                        yield stream


def _claims(config: BackendConfig) -> Claims | None:
    """Return what a session of this backend would claim; None where it could not begin."""
    try:
        return session_claims(config)
    except InvalidValue:
        return None
