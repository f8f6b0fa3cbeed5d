"""Reconciles what runs with the newest configuration: desired against actual, never a patch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from weakref import WeakValueDictionary

from relay.config import BackendConfig, RelayConfig
from relay.dialing import Dialer
from relay.keeper import Keeper, Status
from relay.logs import Once, get_logger
from relay.requests import ConnectHandler, ConnectRequest, NoRoute, Upstream
from relay.session import Session, SessionEnv
from relay.socks import SocksServer
from relay.stream import Stream
from relay.tokens import TokenSource, token_source

OPENING_AT_ONCE: Final = 64
"""Sessions that are being opened to one node address at a time."""

_log = get_logger("relay.supervisor")


class Runner:
    """One backend: its newest configuration and a keeper for each of its nodes."""

    def __init__(self, supervisor: Supervisor, config: BackendConfig) -> None:
        self.config = config
        self._supervisor = supervisor
        self._source: TokenSource = token_source(config)
        self.keepers: dict[str, Keeper] = {}
        self._env = SessionEnv(
            backend=lambda: self.config,
            source=lambda: self._source,
            route=self._route,
            dialer=supervisor.dialer,
            opening=supervisor.opening,
            once=supervisor.once,
            live=supervisor.live,
        )
        self._socks: SocksServer | None = None
        self._reconcile_nodes()
        self._reconcile_socks()

    def update(self, config: BackendConfig) -> None:
        """Take a newer configuration. Routes serve the next stream, credentials the next token."""
        old, self.config = self.config, config
        credential = (config.credential, config.attestation, config.name)
        if credential != (old.credential, old.attestation, old.name):
            self._source = token_source(config)
            identity_changed = True
        else:
            identity_changed = config.claims != old.claims
        if identity_changed:
            for keeper in self.keepers.values():
                keeper.changed()
        self._reconcile_nodes()
        self._reconcile_socks()

    def stop(self) -> None:
        """End all sessions, drained."""
        for keeper in self.keepers.values():
            self._supervisor.drain(keeper)
        self.keepers = {}
        if self._socks is not None:
            self._socks.close()

    def _reconcile_socks(self) -> None:
        wanted = self.config.socks5_listen
        if self._socks is not None and self._socks.address != wanted:
            self._socks.close()
            self._socks = None
        if self._socks is None and wanted:
            self._socks = SocksServer(wanted, self._outbound_session)

    def _outbound_session(self) -> Session | None:
        sessions = [keeper.current for keeper in self.keepers.values() if keeper.current is not None]
        return min(sessions, key=lambda session: session.streams, default=None)

    def _reconcile_nodes(self) -> None:
        wanted = {node.address: node for node in self.config.nodes}
        for address in self.keepers.keys() - wanted.keys():
            self._supervisor.drain(self.keepers.pop(address))
        for address, node in wanted.items():
            keeper = self.keepers.get(address)
            if keeper is None:
                keeper = self.keepers[address] = Keeper(self._env, node)
                keeper.start()
            elif keeper.node != node:
                keeper.node = node
                keeper.changed()

    async def _route(self, request: ConnectRequest) -> Upstream:
        handler = self._supervisor.handler
        if handler is not None:
            try:
                return await handler(request)
            except NoRoute:
                pass
        target = self.config.routes.resolve(request.port, request.hostname, request.transport)
        if target is None:
            raise NoRoute
        return target


class Supervisor:
    """All backends of a relay.

    Args:
        handler: decides where streams go, before the configured routes.
        drain: seconds that live streams of what was removed may go on.
    """

    def __init__(self, handler: ConnectHandler | None, drain: float) -> None:
        self.handler = handler
        self.dialer = Dialer()
        self.once = Once()
        self.live: set[Stream] = set()
        """Streams that hold or dial a target."""
        self._opening: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._drain = drain
        self._runners: dict[str, Runner] = {}
        self._stopping: dict[Keeper, asyncio.Task[None]] = {}
        self.generation = 0

    def apply(self, config: RelayConfig) -> None:
        """Make what runs follow ``config``. Returns at once; sessions come and go in their own time."""
        added = removed = changed = 0
        for key in self._runners.keys() - config.backends.keys():
            self._runners.pop(key).stop()
            removed += 1
        for key, backend in config.backends.items():
            runner = self._runners.get(key)
            if runner is None:
                self._runners[key] = Runner(self, backend)
                added += 1
            elif runner.config is not backend and runner.config != backend:
                runner.update(backend)
                changed += 1
        self.generation = config.generation
        if added or removed or changed:
            _log.info(
                "configuration applied",
                generation=config.generation,
                added=added,
                changed=changed,
                removed=removed,
                backends=len(self._runners),
            )

    def opening(self, address: str) -> asyncio.Semaphore:
        """Return what bounds how many sessions to a node are opened at once."""
        return self._opening.setdefault(address, asyncio.Semaphore(OPENING_AT_ONCE))

    def drain(self, keeper: Keeper) -> None:
        """End a keeper in the background."""
        self._stop_keeper(keeper, self._drain)

    async def stop(self, drain: float) -> None:
        """End everything: refuse new streams, wait up to ``drain`` seconds for live ones, close cleanly.

        A second call shortens the first.
        """
        for runner in self._runners.values():
            runner.stop()
        self._runners = {}
        await asyncio.gather(
            *[self._stop_keeper(keeper, drain) for keeper in list(self._stopping)], return_exceptions=True
        )
        for stream in list(self.live):
            stream.abort()

    def _stop_keeper(self, keeper: Keeper, drain: float) -> asyncio.Task[None]:
        earlier = self._stopping.get(keeper)
        if earlier is not None:
            earlier.cancel()
        task = self._stopping[keeper] = asyncio.create_task(keeper.stop(drain))

        def forget(done: asyncio.Task[None]) -> None:
            if self._stopping.get(keeper) is done:
                del self._stopping[keeper]

        task.add_done_callback(forget)
        return task

    def keepers(self) -> Iterator[tuple[BackendConfig, Keeper]]:
        """Yield every keeper that serves, with its backend."""
        for runner in self._runners.values():
            for keeper in runner.keepers.values():
                yield runner.config, keeper

    def statuses(self) -> Iterator[tuple[BackendConfig, Status]]:
        """Yield what every keeper is doing."""
        for backend, keeper in self.keepers():
            yield backend, keeper.status()
