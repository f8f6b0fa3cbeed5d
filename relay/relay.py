"""A relay that runs inside any asyncio program: what the library offers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

from relay.config import BackendConfig, RelayConfig, Removal
from relay.config.proxies import parse_proxy
from relay.connect_handler import ConnectHandler
from relay.events import EventCallback
from relay.limits.quota import ProcessBounds
from relay.sessions.snapshot import SessionSnapshot, UplinkSnapshot
from relay.sessions.usage import UsageBook
from relay.supervision.stats import RelayStats
from relay.supervision.supervisor import Supervisor
from relay.targets.health import TargetStatus
from relay.timings import Timings

DRAIN: Final = 30.0
"""Seconds that sessions may go on serving when their backend is removed or the relay stops."""


class Relay:
    """Keeps sessions up for backends and carries their streams.

    ::

        async with Relay([backend], connect_handler=handler) as relay:
            await relay.wait_up()
            ...

    Args:
        config: a `RelayConfig`, or the backends alone.
        connect_handler: asked for each stream, before the configured routes; see `relay.connect_handler`.
        drain: seconds that sessions may go on serving when their backend is removed or the relay stops.
        bounds: what the process holds at most; None for the defaults.
        socks5_beyond_loopback: let `BackendConfig.socks5_listen` be an address that other machines reach; every
            program that does may connect out through the node.
        on_event: is told of sessions and streams that come and go; see `relay.events`.
        usage: where it is counted what each backend carries; who gives it has to let it forget those that are gone.
        timings: how long it waits, where no backend says; for tests.
        node_proxy: address of the proxy that leads to the nodes, as in ``http://user:password@proxy.example:3128``
            (also ``https://``, ``socks5://``, ``socks5h://``), or ``direct``; empty for ``HTTPS_PROXY``, ``ALL_PROXY``
            and ``NO_PROXY`` of the environment. `NodeConfig.proxy` overrides it.

    Raises:
        InvalidValue: ``node_proxy`` is no such address.
    """

    def __init__(
        self,
        config: RelayConfig | Iterable[BackendConfig] = (),
        *,
        connect_handler: ConnectHandler | None = None,
        drain: float = DRAIN,
        bounds: ProcessBounds | None = None,
        socks5_beyond_loopback: bool = False,
        on_event: EventCallback | None = None,
        usage: UsageBook | None = None,
        timings: Timings = Timings(),
        node_proxy: str = "",
    ) -> None:
        if not isinstance(config, RelayConfig):
            config = RelayConfig(MappingProxyType({backend.key: backend for backend in config}))
        self._config = config
        self._handler = connect_handler
        self.drain = drain
        self._bounds = bounds
        self._socks5_beyond_loopback = socks5_beyond_loopback
        self._on_event = on_event
        self._usage = usage
        self.timings = timings
        if node_proxy:
            parse_proxy(node_proxy, "node proxy")
        self._node_proxy = node_proxy
        self._supervisor: Supervisor | None = None

    async def start(self) -> None:
        """Begin to open sessions. Returns at once.

        Raises:
            RuntimeError: the relay runs already.
        """
        if self._supervisor is not None:
            raise RuntimeError("this relay runs already")
        self._supervisor = Supervisor(
            self._handler,
            self.drain,
            self._bounds,
            socks5_beyond_loopback=self._socks5_beyond_loopback,
            on_event=self._on_event,
            usage=self._usage,
            timings=self.timings,
            node_proxy=self._node_proxy,
        )
        self._supervisor.apply(self._config)

    def apply(self, config: RelayConfig, removal: Removal | None = None) -> None:
        """Follow a newer configuration, without touching what it leaves as it was.

        Args:
            removal: how the streams of backends and routes go that this change removes; None for what their
                configuration says (`BackendConfig.removal`, `RelayConfig.removals`).
        """
        self._config = config
        if self._supervisor is not None:
            self._supervisor.apply(config, removal)

    async def stop(self, drain: float | None = None) -> None:
        """Close each session cleanly once it carries nothing, or after ``drain`` seconds. Until then it serves.

        Calling it again while it drains, with 0, stops at once.
        """
        supervisor = self._supervisor
        if supervisor is not None:
            await supervisor.stop(self.drain if drain is None else drain)
            self._supervisor = None

    async def __aenter__(self) -> Relay:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop(0)

    @property
    def config(self) -> RelayConfig:
        """The configuration that is followed."""
        return self._config

    def statuses(self) -> list[tuple[BackendConfig, UplinkSnapshot]]:
        """Return what each (backend, node) is doing."""
        return list(self.iter_statuses())

    def iter_statuses(self) -> Iterator[tuple[BackendConfig, UplinkSnapshot]]:
        """Yield what `statuses` returns, each as it is when it is yielded: for many, looked at in several turns."""
        return self._supervisor.statuses() if self._supervisor is not None else iter(())

    def sessions(self) -> Iterator[tuple[BackendConfig, SessionSnapshot]]:
        """Yield the sessions that live, with their backends; each as it is when it is yielded."""
        return self._supervisor.sessions() if self._supervisor is not None else iter(())

    def stats(self) -> RelayStats:
        """Return a snapshot of all backends, sessions and streams. It costs as much as there are live streams."""
        return self._supervisor.stats() if self._supervisor is not None else RelayStats(0, 0, ())

    def targets(self, backend: str | None = None) -> list[TargetStatus]:
        """Return what the health checks say of the targets: of all that are checked, or of one backend's (its key)."""
        return self._supervisor.targets(backend) if self._supervisor is not None else []

    def retry_now(self) -> None:
        """End every back-off: the network is back."""
        if self._supervisor is not None:
            for _, uplink in self._supervisor.uplinks():
                uplink.retry_now()

    async def wait_up(self, timeout: float = 30.0) -> None:
        """Wait until every (backend, node) has a session that the node took.

        Raises:
            TimeoutError: not all did within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            # Looked at, not notified of: this is for start-up and tests.
            while not all(status.state == "up" for _, status in self.statuses()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
