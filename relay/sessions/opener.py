"""What becomes of a ``connect``: the access list, the limits, the route, the dial, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Final, Protocol

import structlog

from relay.config import Claims, NodeConfig
from relay.config.client_address import parse_client_address
from relay.config.hostnames import requested_name
from relay.config.port_options import AccessList, AccessMode, ProxyProtocol
from relay.config.targets import Target, parse_targets
from relay.connect_handler import ConnectRequest, Dial, NoRoute, Refused, Upstream
from relay.errors import InvalidValue
from relay.events import StreamConnected, StreamRefused
from relay.memory_transport import MemoryTransport, splice
from relay.protocol.messages import Connect, Reason
from relay.protocol.session import MAX_STREAMS
from relay.protocol.stream import StreamState
from relay.routing import RouteTable
from relay.sessions.host import SessionHost
from relay.sessions.streams import Stream, StreamHost
from relay.sessions.tcp_stream import TcpStream
from relay.sessions.udp_stream import UdpStream
from relay.sessions.usage import Usage
from relay.targets.balancing import RoutedDial
from relay.targets.dialing import words_of
from relay.targets.proxy_protocol import header
from relay.tasks import Tasks

MAX_LIVE: Final = MAX_STREAMS
"""Targets that one session may hold or dial, with those whose users have left already: a node that connects and
disconnects in one breath leaves a target behind each time."""

_EVERYBODY: Final = AccessList()


class Carrier(StreamHost, Protocol):
    """The session, as what opens its streams sees it.

    Attributes:
        usage: where it is counted what its backend carries.
        last_opened: when the newest user came who was not turned away, by the loop's clock.
        turned_away: it has had to refuse a user whose name was removed: the sooner it closes, the better.
        only: while the session is replaced, the newer claims: what they do not cover has been removed.
    """

    node: NodeConfig
    usage: Usage
    last_opened: float
    turned_away: bool
    only: Claims | None

    @property
    def live(self) -> Sized:
        """The streams that hold or dial a target."""

    def refuse(self, state: StreamState, reason: str) -> None:
        """Tell the node that a stream is not taken."""


class Opener:
    """Opens the streams of one session.

    Args:
        tasks: of the session; dials are among them.
    """

    def __init__(self, host: SessionHost, carrier: Carrier, tasks: Tasks, log: structlog.stdlib.BoundLogger) -> None:
        self._host, self._carrier, self._tasks, self._log = host, carrier, tasks, log
        self._shared = host.shared
        self._loop = asyncio.get_running_loop()

    def open(self, state: StreamState, request: Connect) -> None:
        """Take a stream that the node has announced, or refuse it."""
        carrier = self._carrier
        if len(carrier.live) >= MAX_LIVE or self.over_limit(request.hostname):
            carrier.refuse(state, Reason.BUFFER_FULL)
            carrier.usage.refused += 1
            if self._shared.emit is not None:
                info = carrier.info_of(Stream(carrier, state))
                self._shared.emit(StreamRefused(info, Reason.BUFFER_FULL, "no more streams are taken"))
            return
        stream: Stream = UdpStream(carrier, state) if request.transport == "udp" else TcpStream(carrier, state)
        state.context = stream
        stream.dial = dial = self._tasks.spawn(self._dial(stream, request))
        dial.add_done_callback(lambda task: self._dialled(stream, task))

    def over_limit(self, hostname: str) -> bool:
        """Say whether one more stream would be too many for a limit; if so, count it and tell of it."""
        problem = self._host.gate.refusal()
        if problem:
            self._carrier.totals.over_limit += 1
            backend = self._host.config
            if self._shared.once.allows(("limit", problem), group=backend.tenant or backend.key):
                self._log.warning(f"stream refused: {problem}", hostname=hostname)
        return bool(problem)

    async def _dial(self, stream: Stream, request: Connect) -> None:
        begun = self._loop.time()
        try:
            self._check_access(self._host.config.routes, request)
            only, asked = self._carrier.only, self._describe(stream, request)
            removed = only is not None and not covers(only, asked.port, asked.hostname, asked.transport)
            try:
                former = self._host.former_routes(asked, removed=removed)
            except NoRoute:
                self._carrier.turned_away = True
                raise
            if former is not None:
                self._check_access(former, request)  # the port may have gone, with its list
            self._carrier.last_opened = begun
            upstream = await self._host.route(asked, former)
            stream.routed = isinstance(upstream, RoutedDial)
            if isinstance(stream, TcpStream):
                await self._connect(stream, upstream, request, begun)
            elif isinstance(stream, UdpStream):
                dial = self._as_dial(stream, upstream)
                stream.preface = self._proxy_header(dial, stream, request)
                policies = self._host.config.target_policies
                sock, target = await self._host.dialer.udp_socket(dial.targets, self._left(dial, begun), policies)
                self._carrier.usage.reached(stream.target)
                stream.target = str(target)
                await stream.open(sock)
                stream.connected = True
        except NoRoute:
            self._carrier.totals.no_route += 1
            self._turn_away(stream, "dial failed: no route", request)
        except Refused as refusal:
            self._carrier.totals.refused += 1
            self._turn_away(stream, f"stream refused: {refusal}", request, refusal.reason)
        except (OSError, InvalidValue) as error:
            self._carrier.totals.dials_failed += 1
            if stream.target:
                self._carrier.usage.missed(stream.target, words_of(error))
            self._turn_away(stream, f"dial failed: {words_of(error)}", request)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled, but what the handler waited for.
            self._turn_away(stream, "dial failed: connect handler was cancelled", request)
        except Exception:
            self._log.exception("the connect handler failed", stream=stream.id)
            self._turn_away(stream, "dial failed: connect handler failed", request)
        else:
            self._carrier.usage.streams += stream.connected
            if self._shared.emit is not None and stream.connected:
                self._shared.emit(StreamConnected(self._carrier.info_of(stream)))

    def _dialled(self, stream: Stream, task: asyncio.Task[None]) -> None:
        """The dial is over, however it ended, be it before it began."""
        stream.dial = None
        if task.cancelled() or not stream.connected:
            stream.abort()
            self._carrier.stream_gone(stream)

    def _check_access(self, routes: RouteTable, request: Connect) -> None:
        """Turn users away whom the port's access list does not admit; a connect handler is not even asked."""
        options = routes.options(request.conn_port, request.transport)
        if options is None or options.access == _EVERYBODY:
            return
        client = parse_client_address(request.client_ip)
        if self._host.access(options.access).admits(client):
            return
        port = f"{request.transport} {request.conn_port}"
        if options.access.mode is AccessMode.OBSERVE:
            self._carrier.totals.access_observed += 1
            if self._shared.once.allows(("access", port), group=self._host.config.key):
                self._log.info("access list would refuse a user", client=str(client.ip) if client else None, port=port)
            return
        self._carrier.totals.access_denied += 1
        raise Refused(f"the access list of {port} does not admit this user")

    def _proxy_header(self, dial: Dial, stream: Stream, request: Connect) -> bytes:
        if dial.proxy_protocol is ProxyProtocol.NONE:
            return b""
        return header(
            dial.proxy_protocol,
            parse_client_address(request.client_ip),
            request.conn_port,
            transport=request.transport,
            hostname="" if request.hostname.startswith(f"{request.transport}:") else request.hostname,
            stream_id=stream.id,
        )

    async def _connect(self, stream: TcpStream, upstream: Upstream, request: Connect, begun: float) -> None:
        if isinstance(upstream, tuple):
            upstream, task = splice(*upstream)
            self._tasks.keep(task)
        if isinstance(upstream, MemoryTransport):
            stream.target = "memory"
            stream.connection_made(upstream)
            upstream.set_protocol(stream)
        else:
            dial = self._as_dial(stream, upstream)
            stream.preface = self._proxy_header(dial, stream, request)
            policies = self._host.config.target_policies
            target = await self._host.dialer.connect(dial.targets, stream, self._left(dial, begun), policies)
            self._carrier.usage.reached(stream.target)
            if len(dial.targets) > 1:
                stream.target = str(target)
        stream.connected = True
        if stream.ended and not stream.finishing:
            stream.abort()

    def _left(self, dial: Dial, begun: float) -> float:
        """Return the seconds for a dial: a connect handler's time counts, the user has waited for it as well."""
        return dial.timeout - (self._loop.time() - begun)

    def _as_dial(self, stream: Stream, upstream: Upstream) -> Dial:
        if isinstance(upstream, str):
            upstream = Dial(parse_targets(upstream), self._host.dialer.timeout)
        elif isinstance(upstream, Target):
            upstream = Dial((upstream,), self._host.dialer.timeout)
        if not isinstance(upstream, Dial):
            if isinstance(upstream, MemoryTransport):
                upstream.abort()
            elif isinstance(upstream, tuple):
                upstream[1].close()
            else:
                raise OSError(f"connect handler returned {type(upstream).__name__}: neither a target nor a stream")
            raise OSError("a UDP flow needs a target, not a stream")
        if not upstream.targets:
            raise OSError("connect handler returned no target to dial")
        stream.target = ",".join(map(str, upstream.targets))
        return upstream

    def _describe(self, stream: Stream, request: Connect) -> ConnectRequest:
        backend = self._host.config
        hostname = requested_name(request.hostname)
        if hostname is None:
            raise NoRoute  # too long for any route: neither table nor handler is asked
        return ConnectRequest(
            backend=backend.name,
            stream_id=stream.id,
            hostname=hostname,
            original_hostname=request.hostname,
            port=request.conn_port,
            client_address=request.client_ip,
            is_tls=request.is_tls,
            transport=request.transport,
            tenant=backend.tenant,
        )

    def _turn_away(self, stream: Stream, event: str, request: Connect, reason: str = Reason.DIAL_FAILED) -> None:
        key = (self._carrier.node.address, stream.target or request.hostname, event)
        if self._shared.once.allows(key, group=(self._carrier.node.address, self._host.config.key)):
            self._log.warning(
                event,
                target=stream.target or None,
                hostname=request.hostname,
                port=request.conn_port,
                stream=stream.id,
            )
        stream.end(reason)
        self._carrier.usage.refused += 1
        if self._shared.emit is not None:
            self._shared.emit(StreamRefused(self._carrier.info_of(stream), reason, event))


def covers(claims: Claims, port: int, name: str, transport: str) -> bool:
    """Say whether a session with these claims could have been sent a stream; ``name`` is in normal form."""
    ports = [route.port for route in claims.udp_routes] if transport == "udp" else claims.tcp_ports
    if name.startswith(f"{transport}:"):
        return port in ports
    return name in claims.hostnames or "*." + name.partition(".")[2] in claims.hostnames
