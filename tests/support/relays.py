"""A relay and a development node in this process, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import jwt
import uvloop

from relay import (
    BackendConfig,
    Claims,
    HmacSecret,
    NodeConfig,
    PortRoutes,
    PresignedToken,
    Relay,
    RouteTable,
    Timings,
    UdpRoute,
)
from relay.config import Credential
from relay.devnode import DevNode
from relay.sessions.session import Session
from relay.sessions.uplink import Uplink
from relay.supervision.backend_runner import BackendRunner
from relay.supervision.supervisor import Supervisor
from tests.support.garbage import set_aside
from tests.support.waiting import async_wait_until

SECRET = "test-secret-test-secret-test-secret"
HOST = "app.example.com"
CLAIMS = Claims(hostnames=(HOST,))
DIALECTS = ("attested", "token")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}

set_aside()


def presigned(claims: Claims = CLAIMS, secret: str = SECRET, *, lifetime: int = 3600) -> PresignedToken:
    """A token of the token dialect."""
    now = int(time.time())
    body: dict[str, Any] = {"hostnames": list(claims.hostnames), "weight": claims.weight, "iat": now}
    body["exp"] = now + lifetime
    if claims.tcp_ports:
        body["tcp_ports"] = list(claims.tcp_ports)
    return PresignedToken(jwt.encode(body, secret))


def credential_for(dialect: str, claims: Claims = CLAIMS) -> Credential:
    """A credential that a node of this dialect takes."""
    return HmacSecret(SECRET) if dialect == "attested" else presigned(claims)


def routes_to(target: str, *, port: int = 80, transport: str = "tcp") -> RouteTable:
    """One public port, everything to one target."""
    return RouteTable.build([PortRoutes(transport, port, default=target)])  # type: ignore[arg-type]


def backend_for(node: DevNode, target: str = "", **changes: Any) -> BackendConfig:
    """A backend that serves `HOST` at a node, by the node's public port 80."""
    claims = changes.pop("claims", CLAIMS)
    backend = BackendConfig(
        key="app",
        name="app",
        nodes=(NodeConfig(node.address, ca_pem=node.ca_pem),),
        credential=credential_for(node.options.dialect, claims),
        claims=claims,
        routes=routes_to(target) if target else RouteTable.build([]),
    )
    return replace(backend, **changes)


def quick(**times: Any) -> Timings:
    """Short waits: sessions count as up at once, and what is due is looked at often. `times` are changes of them."""
    short: dict[str, Any] = {
        "confirmed_after": 0.05,
        "tick": 0.02,
        "retry_first": 0.05,
        "retry_least": 0.01,
        "linger": 0.3,
    }
    return Timings(**(short | times))


@contextlib.asynccontextmanager
async def running(
    target: str = "",
    *,
    dialect: str = "attested",
    options: dict[str, Any] | None = None,
    timings: Timings | None = None,
    **backend: Any,
) -> AsyncIterator[tuple[DevNode, Relay]]:
    """A node with the public port 80 and a relay with one backend, whose session is up.

    The relay has `quick` times, or `timings`.
    """
    options_of_relay = ("connect_handler", "bounds", "on_event", "usage")
    of_relay = {name: backend.pop(name) for name in options_of_relay if name in backend}
    settings: dict[str, Any] = {"dialect": dialect, "secret": SECRET, "http_ports": {80: 0}} | (options or {})
    async with (
        DevNode(**settings) as node,
        Relay([backend_for(node, target, **backend)], timings=timings or quick(), **of_relay) as relay,
    ):
        await relay.wait_up(10)
        yield node, relay


def inside_of(relay: Relay) -> Supervisor:
    """What runs inside a relay, for tests that have to break or count something which no program can reach.

    What a program sees is `Relay.stats`, `Relay.sessions` and `Relay.statuses`: tests use those where they can.
    """
    assert relay._supervisor is not None
    return relay._supervisor


def runner_of(relay: Relay, key: str = "app") -> BackendRunner:
    """The runner of one backend."""
    return inside_of(relay)._runners[key]


def uplink_of(relay: Relay) -> Uplink:
    """The one uplink of a relay."""
    ((_, uplink),) = inside_of(relay).uplinks()
    return uplink


def sessions_of(relay: Relay) -> list[Session]:
    """All live sessions of a relay, those on their way out not."""
    return [session for _, uplink in inside_of(relay).uplinks() for session in uplink.sessions()]


def session_of(relay: Relay) -> Session:
    """The one live session of a relay."""
    (session,) = sessions_of(relay)
    return session


def udp_claims(node: DevNode) -> Claims:
    """Claims of the node's first public UDP port."""
    port = next(port for port in node.public_ports if port.kind == "udp")
    return Claims(udp_routes=(UdpRoute(port.advertised),))


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test method on uvloop and on asyncio, each in a loop of its own.

    What a loop reports (tasks whose exception nobody took, errors in callbacks) fails the test.
    """

    def run(self: Any) -> None:
        for name, factory in LOOPS.items():
            with self.subTest(loop=name):
                run_on(factory, lambda: test(self))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test method on uvloop alone: where what is tested runs in another process."""

    def run(self: Any) -> None:
        run_on(LOOPS["uvloop"], lambda: test(self))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def run_on(factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on a new loop; complain of what the loop reports."""
    reports: list[str] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: reports.append(f"{context['message']} {context.get('exception')!r}")
        )
        await main()
        gc.collect()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(watched())
    if reports:
        raise AssertionError("the event loop reported: " + "; ".join(reports))


def open_files() -> int:
    """How many file descriptors this process has open, but for the ones that libuv keeps in reserve."""
    number = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            number += os.readlink(f"/proc/self/fd/{name}") != os.devnull
    return number


class Leaks:
    """Compares tasks and file descriptors of this process before and after."""

    def __init__(self) -> None:
        gc.collect()
        self._tasks = set(asyncio.all_tasks())
        self._files = open_files()

    async def check(self) -> None:
        """Wait until there are no more tasks and files than there were.

        Raises:
            AssertionError: there are.
        """
        gc.collect()
        try:
            await async_wait_until(self._none, "no leaks", timeout=5)
        except AssertionError:
            new = asyncio.all_tasks() - self._tasks
            raise AssertionError(f"left over: {open_files() - self._files} files; new tasks: {new}") from None

    def _none(self) -> bool:
        return len(asyncio.all_tasks()) <= len(self._tasks) and open_files() <= self._files


class Recorder(logging.Handler):
    """Keeps what is logged below ``relay``."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def text(self) -> str:
        """All messages, one a line."""
        return "\n".join(record.getMessage() for record in self.records)


@contextlib.contextmanager
def recorded_logs(level: int = logging.INFO) -> Iterator[Recorder]:
    """Record what the relay logs meanwhile, and keep it off the test's output."""
    logger, recorder = logging.getLogger("relay"), Recorder()
    before, propagate = logger.level, logger.propagate
    logger.addHandler(recorder)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield recorder
    finally:
        logger.removeHandler(recorder)
        logger.setLevel(before)
        logger.propagate = propagate
