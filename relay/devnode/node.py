"""`DevNode`: a Nexus node for development and tests, as strict as a real one (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from websockets.frames import Frame

from relay.config import Claims
from relay.devnode.certificate import NodeCertificate, ensure_certificate
from relay.devnode.counters import NodeCounters
from relay.devnode.faults import GARBAGE, Faults
from relay.devnode.hub import HubConnection
from relay.devnode.options import NodeOptions, PortSpec
from relay.devnode.pool import Pool
from relay.devnode.session import NodeSession
from relay.devnode.tcp_stream import NodeTcpStream
from relay.devnode.udp import UdpPort
from relay.devnode.user_stream import UserStream
from relay.errors import InvalidValue
from relay.protocol.frames import MAX_FIRST_PAYLOAD, MAX_PAYLOAD

_logger = logging.getLogger(__name__)

_LOOK_AGAIN = 0.02
"""Seconds: counters change without notice."""

Kind = Literal["http", "tls", "tcp", "udp"]


@dataclass(slots=True)
class PublicPort:
    """A public port: the number that ``connect`` and claims have, and the one that is listened on."""

    kind: Kind
    advertised: int
    bound: int
    listener: asyncio.Server | UdpPort


class DevNode:
    """A Nexus node in this process.

    ::

        async with DevNode(dialect="attested", secret=SECRET, http_ports=[0]) as node:
            ...  # open a session to node.address, trusting node.ca_pem
            await node.wait_for_sessions(1)
            ...  # be a user at node.public_port("http")

    It can be stopped and started again, and then keeps its port numbers. Not for production: it trusts everyone who has
    its secret and makes no effort to resist its users.

    Attributes:
        options: see `NodeOptions`.
        secret: the key that tokens are checked with; can be changed while it runs.
        faults: standing misbehaviour; can be changed while it runs.
        pool: which session gets a stream.
        frozen: whether it hangs (`freeze`).
        counts: what the node itself counts; `counters` sums up everything.
    """

    def __init__(self, options: NodeOptions | None = None, **changes: Any) -> None:
        """Take ``options``, or `NodeOptions` made of the keywords given."""
        self.options = options if options is not None else NodeOptions(**changes)
        self.secret = self.options.secret
        self.faults = Faults()
        self.pool = Pool()
        self.counts = NodeCounters()
        self.read_buffer = memoryview(bytearray(MAX_PAYLOAD))
        self.peek_buffer = memoryview(bytearray(MAX_FIRST_PAYLOAD))
        self.hub_connections: set[HubConnection] = set()
        self.tcp_streams: set[NodeTcpStream] = set()
        self.stopping = False
        self.frozen = False
        self._sessions: dict[NodeSession, None] = {}
        self._dead: dict[NodeSession, None] = {}
        self._retired = NodeCounters()
        self._ports: list[PublicPort] = []
        self._bound: dict[tuple[Kind, int], int] = {}
        self._specs: dict[Kind, list[tuple[int, int]]] = {
            "http": _pairs(self.options.http_ports),
            "tls": _pairs(self.options.tls_ports),
            "tcp": _pairs(self.options.tcp_ports),
            "udp": _pairs(self.options.udp_ports),
        }
        self._hub: asyncio.Server | None = None
        self._hub_port = self.options.hub_port
        self._context: ssl.SSLContext | None = None
        self._certificate: NodeCertificate | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    # -- life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        self._forget_certificate()

    async def start(self) -> None:
        """Listen on everything.

        Raises:
            InvalidValue: a port is taken or may not be used; it names the port and the option.
        """
        self.stopping = self.frozen = False
        if self._certificate is None:
            self._certificate = ensure_certificate(self._certificate_directory())
        if self.options.tls and self._context is None:
            self._context = self._certificate.server_context()
        try:
            await self.open_hub()
            for kind, pairs in self._specs.items():
                for index, pair in enumerate(pairs):
                    await self._listen(kind, index, *pair)
        except BaseException:
            await self.stop()
            self._forget_certificate()
            raise

    async def stop(self) -> None:
        """Say Close 1001 to every session and stop listening."""
        await self._stop(lambda connection: connection.close(1001, "node is going away"))

    async def kill(self) -> None:
        """Die: drop every socket without a word and stop listening. `start` brings the node back."""
        await self._stop(lambda connection: connection.abort())

    async def open_hub(self) -> None:
        """Listen for sessions again after `close_hub`."""
        if self._hub is not None:
            return
        self._hub = await self._create_server(
            lambda: HubConnection(self, self._context, lambda connection: NodeSession(self, connection)),
            self._hub_port,
            "the hub",
            "hub_port (--hub-port)",
        )
        self._hub_port = self._hub.sockets[0].getsockname()[1]

    async def close_hub(self) -> None:
        """Refuse new TCP connections of clients; those that stand go on."""
        if self._hub is not None:
            self._hub.close()
            self._hub = None

    # -- where it is

    @property
    def hub_port(self) -> int:
        """The port that sessions come in at."""
        return self._hub_port

    @property
    def address(self) -> str:
        """The node's address for a client (``wss://127.0.0.1:PORT/connect``)."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{'wss' if self.options.tls else 'ws'}://{host}:{self._hub_port}/connect"

    @property
    def ca_file(self) -> Path:
        """The file with the certificate that clients have to trust."""
        assert self._certificate is not None, "the node has not been started"
        return self._certificate.ca_file

    @property
    def ca_pem(self) -> str:
        """The text of `ca_file`."""
        return self.ca_file.read_text(encoding="ascii")

    @property
    def public_ports(self) -> tuple[PublicPort, ...]:
        """Every public port that is open."""
        return tuple(self._ports)

    def public_port(self, kind: Kind = "http", advertised: int | None = None) -> int:
        """Return the number that users connect to: of the port advertised as that, or of the first of its kind.

        Raises:
            KeyError: there is none.
        """
        for port in self._ports:
            if port.kind == kind and advertised in (None, port.advertised):
                return port.bound
        raise KeyError(f"no public {kind} port" + (f" is advertised as {advertised}" if advertised else ""))

    # -- what it sees

    @property
    def sessions(self) -> tuple[NodeSession, ...]:
        """Live sessions, oldest first; dead ones that still stand in the pool are in `dead_sessions`."""
        return tuple(self._sessions)

    @property
    def dead_sessions(self) -> tuple[NodeSession, ...]:
        """Sessions that were lost uncleanly and still get their share of new streams."""
        return tuple(self._dead)

    @property
    def counters(self) -> NodeCounters:
        """A sum of the node's counts and those of all its sessions, past and present."""
        total = NodeCounters()
        for part in (self.counts, self._retired, *(s.counters for s in (*self._sessions, *self._dead))):
            total.add(part)
        return total

    async def wait_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Wait until ``condition()`` holds; it is looked at when a session or a stream comes or goes, and now and then.

        Raises:
            TimeoutError: it did not come true within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await asyncio.wait([waiter], timeout=_LOOK_AGAIN)
                finally:
                    self._waiters.discard(waiter)

    async def wait_for_sessions(self, number: int = 1, timeout: float = 5.0) -> tuple[NodeSession, ...]:
        """Wait until exactly ``number`` sessions are live, and return them.

        Raises:
            TimeoutError: that did not happen within ``timeout`` seconds.
        """
        await self.wait_until(lambda: len(self._sessions) == number, timeout)
        return self.sessions

    # -- misbehaviour at the moment

    def drop_sessions(self, *, noticed: bool = True) -> None:
        """Drop the socket of every session without a Close.

        With ``noticed`` False they stay in the pool as dead sessions (``dead_session_linger``).
        """
        for session in self.sessions:
            session.connection.abort(noticed=noticed)

    def close_sessions(self, code: int = 1001, reason: str = "") -> None:
        """End every session with a Close."""
        for session in self.sessions:
            session.connection.close(code, reason)

    def freeze(self) -> None:
        """Hang: read and answer nothing at the hub, neither pings nor new connections, and keep every socket."""
        self.frozen = True
        for connection in self.hub_connections:
            connection.freeze()

    def thaw(self) -> None:
        """End `freeze`."""
        self.frozen = False
        for connection in self.hub_connections:
            connection.thaw()

    def challenge_all(self) -> None:
        """Send every session a ``reauth_challenge`` now."""
        for session in self.sessions:
            session.challenge_again()

    def send_garbage(self, name: str) -> None:
        """Send every session the garbage of that name (`relay.devnode.faults.GARBAGE`)."""
        for frame in GARBAGE[name]():
            self.send_frame(frame)

    def send_frame(self, frame: Frame) -> None:
        """Send a raw WebSocket frame to every session."""
        for session in self.sessions:
            session.connection.send_frame(frame)

    # -- what its sessions tell it

    def claims_problem(self, claims: Claims) -> str:
        """Return why the node does not allow these claims; empty when it does."""
        allowed_tcp = {port.advertised for port in self._ports if port.kind == "tcp"}
        allowed_udp = {port.advertised for port in self._ports if port.kind == "udp"}
        for port in claims.tcp_ports:
            if port not in allowed_tcp:
                return f"tcp port {port} not allowed"
        for route in claims.udp_routes:
            if route.port not in allowed_udp:
                return f"udp port {route.port} not allowed"
        if claims.outbound_allowed and not self.options.outbound_permitted:
            return "outbound access not allowed"
        for port in claims.allowed_outbound_ports:
            if self.options.outbound_ports and port not in self.options.outbound_ports:
                return f"outbound port {port} not allowed"
        return ""

    def session_up(self, session: NodeSession) -> None:
        """A session has authenticated."""
        self._sessions[session] = None
        self.pool.add(session)
        self.changed()

    def session_died(self, session: NodeSession) -> None:
        """A session was lost uncleanly; it stays in the pool."""
        self._sessions.pop(session, None)
        self._dead[session] = None
        self.changed()

    def session_ended(self, session: NodeSession) -> None:
        """A session is over."""
        self._sessions.pop(session, None)
        self._dead.pop(session, None)
        self.pool.remove(session)
        self.retire(session)

    def retire(self, session: NodeSession) -> None:
        """Keep the counts of a session that goes."""
        self._retired.add(session.counters)
        self.changed()

    def changed(self) -> None:
        """Let `wait_until` look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- inside

    def _forget_certificate(self) -> None:
        """Remove it where it is a temporary one."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = self._certificate = self._context = None

    def _certificate_directory(self) -> Path:
        if self.options.certificate_directory is not None:
            return Path(self.options.certificate_directory)
        self._temporary = tempfile.TemporaryDirectory(prefix="devnode-")
        return Path(self._temporary.name)

    async def _listen(self, kind: Kind, index: int, advertised: int, wanted: int) -> None:
        option = f"{kind}_ports (--{kind})"
        wanted = self._bound.get((kind, index), wanted)
        if kind == "udp":
            port = await self._listen_udp(advertised, wanted, option)
        else:
            # The factory asks for the number when a user comes: a free port is known only after it is bound.
            port = PublicPort(kind, advertised, 0, None)  # type: ignore[arg-type]
            claimed = kind == "tcp"
            port.listener = server = await self._create_server(
                lambda: UserStream(self, port.advertised, claimed=claimed), wanted, f"public {kind} users", option
            )
            port.bound = server.sockets[0].getsockname()[1]
        port.advertised = port.advertised or port.bound
        self._bound[kind, index] = port.bound
        self._ports.append(port)

    async def _listen_udp(self, advertised: int, wanted: int, option: str) -> PublicPort:
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_DGRAM)
        try:
            listening.setblocking(False)
            listening.bind((self.options.host, wanted))
        except OSError as error:
            listening.close()
            raise _port_error(error, wanted, "public udp users", option) from error
        bound = listening.getsockname()[1]
        _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: UdpPort(self, advertised or bound, listening), sock=listening
        )
        return PublicPort("udp", advertised, bound, protocol)

    async def _create_server(
        self, factory: Callable[[], asyncio.BaseProtocol], port: int, what: str, option: str
    ) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(factory, self.options.host, port, backlog=1024)
        except OSError as error:
            raise _port_error(error, port, what, option) from error

    async def _stop(self, end: Callable[[HubConnection], None]) -> None:
        self.stopping = True
        await self.close_hub()
        for port in self._ports:
            port.listener.close()
        self._ports.clear()
        for connection in list(self.hub_connections):
            end(connection)
        for session in list(self._dead):
            session.bury()
        with contextlib.suppress(TimeoutError):
            await self.wait_until(lambda: not self.hub_connections, timeout=1)
        for connection in list(self.hub_connections):
            connection.abort()
        for stream in list(self.tcp_streams):
            stream.drop()
        await self.wait_until(lambda: not self.hub_connections and not self.tcp_streams)


def _pairs(spec: PortSpec) -> list[tuple[int, int]]:
    """Return (advertised or 0, wanted) of every port of an option."""
    if isinstance(spec, Mapping):
        return list(spec.items())
    ports: Iterable[int] = spec
    return [(port, port) for port in ports]


def _port_error(error: OSError, port: int, what: str, option: str) -> InvalidValue:
    if error.errno == errno.EADDRINUSE:
        return InvalidValue(
            "port", port, f"for {what} is taken", f"stop what listens there, or choose another with {option}"
        )
    return InvalidValue("port", port, f"for {what} cannot be used ({error.strerror})", f"choose another with {option}")
