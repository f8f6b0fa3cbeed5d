"""One session with a node: the protocol's core, its WebSocket and its streams."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from relay.config import BackendConfig, Claims, Credential, NodeConfig
from relay.config.access import Access
from relay.config.client_address import parse_client_address
from relay.config.hostnames import normalise_hostname
from relay.config.port_options import AccessList, AccessMode, ProxyProtocol
from relay.config.targets import Target, parse_targets
from relay.connect_handler import ConnectRequest, Dial, NoRoute, Refused, Upstream
from relay.errors import InvalidValue
from relay.events import EventCallback, StreamClosed, StreamConnected, StreamInfo, StreamRefused
from relay.limits.quota import Gate
from relay.logs import Once
from relay.memory_transport import MemoryTransport, splice
from relay.protocol.endings import Ending, classify
from relay.protocol.events import (
    EndKind,
    Event,
    OutboundFailed,
    SessionFailed,
    Stage,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamWritable,
    TokenNeeded,
)
from relay.protocol.frames import DATA_HEADER_LENGTH, MAX_OUTGOING_MESSAGE, MAX_PAYLOAD
from relay.protocol.messages import Connect, Reason
from relay.protocol.session import MAX_STREAMS, Dialect, HealthTimes, SessionCore, State, StreamState
from relay.sessions.streams import Stream, TcpStream, UdpStream
from relay.sessions.usage import Usage
from relay.targets.balancing import RoutedDial
from relay.targets.dialing import Dialer, words_of
from relay.targets.proxy_protocol import header
from relay.tokens.issuer import TokenError
from relay.tokens.sources import TokenSource, dialect_of
from relay.transport.connection import READ_BUFFER, ConnectFailed, NodeConnection, open_connection
from relay.transport.frames import Buffer

CONFIRMED_AFTER: Final = 3.0
"""Seconds after the last token of the handshake without a word from the node that count as accepted."""

TICK: Final = 1.0
"""Seconds between looks at what is due."""

BOUND_FACTOR: Final = 5
"""Times `FlowControlOptions.max_buffer` messages of 32 KiB may wait for one target: 10 MiB by default.

Where a node speaks credits they keep far below it; but before a first grant arrives a whole lane (8 MiB) may be one
user's."""

SESSION_BOUND: Final = 48 * 1024 * 1024
"""Bytes that may wait for all targets of a session together."""

MAX_LIVE: Final = MAX_STREAMS
"""Targets that one session may hold or dial, with those whose users have left already: a node that connects and
disconnects in one breath leaves a target behind each time."""

_EVERYBODY: Final = AccessList()

REAUTH_ATTEMPTS: Final = 3

REAUTH_PACE: Final = 0.25
"""Seconds between the beginnings of two answers to challenges for re-authentication, after a burst."""

REAUTH_BURST: Final = 8


@dataclass(slots=True)
class Totals:
    """What the shell around the core counts."""

    dials_failed: int = 0
    no_route: int = 0
    refused: int = 0
    buffer_full: int = 0
    over_limit: int = 0
    access_denied: int = 0
    access_observed: int = 0
    datagrams_dropped: int = 0
    datagrams_refused: int = 0


class ReadBuffers:
    """What sockets are read into: one each for all sessions and for all targets of an event loop.

    They hold nothing between two calls of the loop.
    """

    def __init__(self) -> None:
        self.session = memoryview(bytearray(READ_BUFFER))
        self.message = memoryview(bytearray(MAX_OUTGOING_MESSAGE))
        """A data message: room for its header, then `target`."""
        self.target = self.message[DATA_HEADER_LENGTH:]


@dataclass(frozen=True, slots=True)
class SessionEnv:
    """What a session needs of those around it.

    Its functions are asked anew each time, so that an edit serves the next stream and the next token.
    """

    backend: Callable[[], BackendConfig]
    source: Callable[[], TokenSource]
    route: Callable[[ConnectRequest], Awaitable[Upstream]]
    dialer: Callable[[], Dialer]
    opening: Callable[[str], asyncio.Semaphore]
    """Bounds how many sessions to one node address are opened at once: thousands of TLS handshakes in one instant
    help nobody, and a node that does not answer must not keep the others waiting."""
    once: Once
    buffers: ReadBuffers
    access: Callable[[AccessList], Access]
    """An access list, ready to be asked."""
    gate: Callable[[], Gate]
    """What new streams have to pass."""
    live: set[Stream]
    """Streams of all sessions, past ones too, that hold or dial a target."""
    sessions: set[Session]
    """All sessions that live."""
    usage: Callable[[], Usage] = Usage
    """What the backend has carried."""
    emit: EventCallback | None = None
    """Is told of sessions and streams; raises nothing."""


class Session:
    """One session, from its WebSocket to its end. A new one is made for each attempt: nothing leaks from the old.

    Args:
        node: where to.
        claims: what the session serves; its tokens are minted from these to its end, whatever is edited since.
        dialect: which handshake.
    """

    def __init__(
        self, env: SessionEnv, node: NodeConfig, claims: Claims, dialect: Dialect, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._env = env
        self.node = node
        self.claims = claims
        self._log = log
        self._source = env.source()
        self.credential: Credential | None = env.backend().credential
        """What its newest token was made with."""
        self.authenticated_at: float | None = None
        """When that token was sent, by the loop's clock."""
        self.core = SessionCore(dialect, health=self._health())
        self.totals = Totals()
        self.read_buffer = env.buffers.target
        self._blocked: dict[Stream, None] = {}  # streams that wait for the socket, the longest wait first
        self._received: list[Event] = []
        self.refusing: str | None = None
        """Reason that new streams are refused with while the session is drained."""
        self.only: Claims | None = None
        """While the session is replaced: refuse what these newer claims no longer cover."""
        self.last_opened = 0.0
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self.up = asyncio.Event()
        """The node has taken the session."""
        self.live: set[Stream] = set()
        """Streams that hold or dial a target: the live ones, and those whose users left before all was delivered."""
        self.idle = asyncio.Event()
        """Nothing is left to carry, or the session is over."""
        self.idle.set()
        self.usage: Usage
        self._connection: NodeConnection | None = None
        self._token_sent: float | None = None
        self._opened_at = self._loop.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: asyncio.Task[None] | None = None
        self._challenge: tuple[Stage, str] = (Stage.HANDSHAKE, "")
        self._answer_waits = False
        self._answer_due = 0.0
        self._ticker: asyncio.TimerHandle | None = None

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Open the session and serve it to its end. Cancelling it drops it."""
        self.usage = self._env.usage()
        self.usage.session_begun(self.core.counters)
        self._env.sessions.add(self)
        try:
            try:
                async with self._env.opening(self.node.address):
                    # Before the node is called: it waits 10 s for a token, a command may take longer.
                    token = await self._source(Stage.HANDSHAKE, "", self.claims)
                    self._connection = await open_connection(self.node, self, self._env.buffers.session)
            except ConnectFailed as failure:
                return failure.ending
            except TokenError as error:
                return Ending(EndKind.LOST, str(error))
            self._tick()
            self.core.start()
            self._send_token(Stage.HANDSHAKE, "", token)
            ending = await asyncio.shield(self.ended)
            # Where the end is ours the node may have taken the session already: it must not keep it in its pool.
            await self._connection.close(timeout=1.0)
            return ending
        except Exception as error:
            self._log.exception("session broke")
            return Ending(EndKind.LOST, f"internal error ({type(error).__name__}): see the log")
        finally:
            self._clean_up()

    async def close(self, *, reason: str = "shutdown") -> None:
        """End what is still open with ``reason``, then close the session with a clean WebSocket Close."""
        for state in list(self.core.streams.values()):
            self.core.end_stream(state, reason)
            if isinstance(state.context, Stream):
                state.context.reason = reason
                state.context.abort()
        self._flush()
        if self._connection is not None:
            await self._connection.close()
        self._end(Ending(EndKind.CLOSED, "closed by the relay"))

    @property
    def tenant(self) -> str:
        """Slug of the backend's tenant."""
        return self._env.backend().tenant

    @property
    def streams(self) -> int:
        """Live streams."""
        return len(self.core.streams)

    @property
    def write_blocked(self) -> bool:
        """The session's socket takes no more bytes for now."""
        return self._connection is not None and self._connection.write_blocked

    def takes(self, size: int) -> bool:
        """Say whether the session's socket takes a message of ``size`` bytes now."""
        return self._connection is None or self._connection.takes(size)

    def block(self, stream: Stream) -> None:
        """Tell the stream (`Stream.writable`) when the session's socket takes bytes again."""
        self._blocked[stream] = None

    def serves(self, claims: Claims, dialect: Dialect) -> bool:
        """Say whether a new session for these claims would be like this one."""
        return self.claims == claims and self.core.dialect is dialect

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return self._loop.time() - self._opened_at

    @property
    def condition(self) -> str:
        """``opening``, ``up``, ``replaced`` or ``draining``."""
        if not self.up.is_set():
            return "opening"
        if self.refusing is not None:
            return "draining"
        return "up" if self.only is None else "replaced"

    def info_of(self, stream: Stream) -> StreamInfo:
        """Return which stream it is, for events and snapshots."""
        request, backend = stream.request, self._env.backend()
        return StreamInfo(
            backend=backend.name,
            tenant=backend.tenant,
            node=self.node.address,
            stream_id=stream.id,
            hostname=request.hostname if request else "",
            port=request.conn_port if request else 0,
            transport=request.transport if request else "tcp",
            client_address=request.client_ip if request else "",
            target=stream.target,
        )

    def quiet_for(self) -> float:
        """Seconds since the last stream was opened, 0 while any is live."""
        return 0.0 if self.core.streams else self._loop.time() - max(self.last_opened, self._opened_at)

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)
            self.idle.set()

    def _clean_up(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        for task in self._tasks:
            task.cancel()
        for state in list(self.core.streams.values()):
            if isinstance(state.context, Stream):
                state.context.abort()
        self.core.streams.clear()
        self._blocked.clear()
        if self._connection is not None:
            self._connection.abort(ConnectionAbortedError("session over"))
        self.usage.session_ended(self.core.counters)
        self._env.sessions.discard(self)
        self._end(Ending(EndKind.CLOSED, "closed by the relay"))

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK, self._tick)
        if self._connection is not None:
            self._connection.check()
        self.core.health = self._health()
        self._dispatch(self.core.tick(self._loop.time()))
        self._note_up()

    def _health(self) -> HealthTimes:
        checks = self._env.backend().health_checks
        return HealthTimes(checks.inactivity_timeout if checks.enabled else 0, checks.pong_timeout)

    def _note_up(self) -> None:
        if self.up.is_set() or self.core.state is not State.OPEN or self._token_sent is None or self.ended.done():
            return
        if self.core.confirmed or self._loop.time() - self._token_sent >= CONFIRMED_AFTER:
            self.up.set()

    # -- connection.Receiver -----------------------------------------------------------------------------------

    def text_received(self, text: str) -> None:
        self._dispatch(self.core.receive_text(text, self._loop.time()))

    def binary_received(self, message: Buffer) -> None:
        self._received += self.core.receive_binary(message, self._loop.time())

    def batch_received(self) -> None:
        # The first grants of new streams leave before anything else happens: until they arrive the users' data is
        # unlimited.
        self._flush(now=True)
        received, self._received = self._received, []
        self._dispatch(received)
        if not self.up.is_set():
            self._note_up()

    def writing_resumed(self) -> None:
        # In the order in which they had to stop, each one message: round robin.
        blocked = self._blocked
        while blocked and not self.write_blocked:
            stream = next(iter(blocked))
            del blocked[stream]
            stream.writable()
        self._flush()

    def connection_ended(self, code: int, reason: str, error: Exception | None) -> None:
        known = isinstance(error, TimeoutError) or (isinstance(error, ConnectionError) and self.up.is_set())
        if known and str(error):
            self._end(Ending(EndKind.LOST, str(error)))
            return
        since = self._loop.time() - self._token_sent if self._token_sent is not None else 0.0
        self._end(
            classify(
                code,
                reason,
                token_sent=self._token_sent is not None,
                confirmed=self.core.confirmed or self.up.is_set(),
                since_token=since,
            )
        )

    # -- what the core says ------------------------------------------------------------------------------------

    def _dispatch(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                # A stream may have been refused or given up since the core said this of it.
                case StreamData(stream=state, payload=payload):
                    if state.context is not None:
                        state.context.receive(payload)
                case StreamWritable(stream=state):
                    if state.context is not None:
                        state.context.writable()
                case StreamOpened(stream=state):
                    self._stream_opened(state)
                case StreamEnded(stream=state):
                    if state.context is not None:
                        self._stream_finished(state.context)
                case OutboundFailed(stream=state, reason=reason):
                    self._forget(state.context)
                    state.context.failed(reason)
                case TokenNeeded(stage=stage, nonce=nonce):
                    self._challenge = (stage, nonce)
                    if self._answer_waits:
                        continue  # it will be the answer to this newer challenge
                    if self._answering is not None:
                        self._answering.cancel()  # a newer challenge: the older answer is worth nothing any more
                    self._answer_waits = True
                    self._answering = self._spawn(self._answer())
                case SessionFailed(kind=kind, problem=problem):
                    self._end(Ending(kind, problem))
        self._flush()

    async def _answer(self) -> None:
        """Get a token for the newest challenge and send it."""
        # A node that asks all the time must not have a program started for each of its messages.
        await asyncio.sleep(max(0.0, self._answer_due - self._loop.time()))
        self._answer_waits = False
        stage, nonce = self._challenge
        if stage is Stage.REAUTH:
            self._answer_due = max(self._answer_due, self._loop.time() - REAUTH_BURST * REAUTH_PACE) + REAUTH_PACE
        attempts = REAUTH_ATTEMPTS if stage is Stage.REAUTH else 1
        for attempt in range(attempts):
            if dialect_of(self._env.backend()) is self.core.dialect:
                # Else the credential was replaced by one for the other dialect, with which this session can do
                # nothing: the old one serves it until its successor is up.
                self._source = self._env.source()
                self.credential = self._env.backend().credential
            try:
                token = await self._source(stage, nonce, self.claims)
                break
            except Exception as error:
                problem = str(error) if isinstance(error, TokenError) else f"internal error ({type(error).__name__})"
                if stage is not Stage.REAUTH:
                    self._end(Ending(EndKind.LOST, problem))
                    return
                self._log.warning(f"no token for the re-authentication: {problem}", attempt=attempt + 1)
                await asyncio.sleep(1)
        else:
            return  # the node will close the session when its grace is over
        self._send_token(stage, nonce, token)

    def _send_token(self, stage: Stage, nonce: str, token: str) -> None:
        now = self._loop.time()
        self.core.send_token(stage, nonce, token, now)
        self.authenticated_at = now
        if stage is not Stage.REAUTH:
            self._token_sent = now
        self._flush()

    def _stream_opened(self, state: StreamState) -> None:
        request = state.request
        if request is None:
            state.context.opened(state)
            return
        self.last_opened = self._loop.time()
        refusing = self.refusing
        if refusing is None and len(self.live) >= MAX_LIVE:
            refusing = Reason.BUFFER_FULL
        if refusing is None and self.over_limit(request.hostname):
            refusing = Reason.BUFFER_FULL
        if refusing is not None:
            self.core.end_stream(state, refusing)
            self._flush()
            self.usage.refused += 1
            if self._env.emit is not None:
                self._env.emit(StreamRefused(self.info_of(Stream(self, state)), refusing, "no more streams are taken"))
            return
        stream: Stream = UdpStream(self, state) if request.transport == "udp" else TcpStream(self, state)
        state.context = stream
        self.idle.clear()
        stream.dial = dial = self._spawn(self._dial(stream, request))
        dial.add_done_callback(lambda task: self._dialled(stream, task))

    def over_limit(self, hostname: str) -> bool:
        """Say whether one more stream would be too many for a limit; if so, count it and tell of it."""
        problem = self._env.gate().refusal()
        if problem:
            self.totals.over_limit += 1
            backend = self._env.backend()
            if self._env.once.allows(("limit", problem), group=backend.tenant or backend.key):
                self._log.warning(f"stream refused: {problem}", hostname=hostname)
        return bool(problem)

    def open_outbound(self, target_addr: str, context: Stream) -> StreamState:
        """Ask the node to dial; ``context`` is told ``opened`` or ``failed``."""
        state = self.core.open_outbound(uuid.uuid4().bytes, target_addr, self._loop.time())
        state.context = context
        self.idle.clear()
        self._flush()
        return state

    def outbound_connected(self, stream: Stream) -> None:
        """A local program has its outbound stream."""
        stream.connected = True
        self.usage.streams += 1
        if self._env.emit is not None:
            self._env.emit(StreamConnected(self.info_of(stream)))

    def _stream_finished(self, stream: Stream) -> None:
        self._forget(stream)
        if not stream.ended:
            stream.finish()

    def _forget(self, stream: Stream) -> None:
        self._blocked.pop(stream, None)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.core.streams and not self.live:
            self.idle.set()

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._watch(task)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a session's task failed", exc_info=error)

    # -- dialling ----------------------------------------------------------------------------------------------

    async def _dial(self, stream: Stream, request: Connect) -> None:
        begun = self._loop.time()
        try:
            if self.only is not None and not covers(self.only, request):
                raise NoRoute
            self._check_access(request)
            upstream = await self._env.route(self._describe(stream, request))
            stream.routed = isinstance(upstream, RoutedDial)
            if isinstance(stream, TcpStream):
                await self._connect(stream, upstream, request, begun)
            elif isinstance(stream, UdpStream):
                dial = self._as_dial(stream, upstream)
                stream.preface = self._proxy_header(dial, stream, request)
                policies = self._env.backend().target_policies
                sock, target = await self._env.dialer().udp_socket(dial.targets, self._left(dial, begun), policies)
                stream.target = str(target)
                await stream.open(sock)
                stream.connected = True
        except NoRoute:
            self.totals.no_route += 1
            self._turn_away(stream, "dial failed: no route", request)
        except Refused as refusal:
            self.totals.refused += 1
            self._turn_away(stream, f"stream refused: {refusal}", request, refusal.reason)
        except (OSError, InvalidValue) as error:
            self.totals.dials_failed += 1
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
            self.usage.streams += stream.connected
            if self._env.emit is not None and stream.connected:
                self._env.emit(StreamConnected(self.info_of(stream)))

    def _dialled(self, stream: Stream, task: asyncio.Task[None]) -> None:
        """The dial is over, however it ended, be it before it began."""
        stream.dial = None
        if task.cancelled() or not stream.connected:
            stream.abort()
            self.stream_gone(stream)

    def _check_access(self, request: Connect) -> None:
        """Turn users away whom the port's access list does not admit; a connect handler is not even asked."""
        options = self._env.backend().routes.options(request.conn_port, request.transport)
        if options is None or options.access == _EVERYBODY:
            return
        client = parse_client_address(request.client_ip)
        if self._env.access(options.access).admits(client):
            return
        port = f"{request.transport} {request.conn_port}"
        if options.access.mode is AccessMode.OBSERVE:
            self.totals.access_observed += 1
            if self._env.once.allows(("access", port), group=self._env.backend().key):
                self._log.info("access list would refuse a user", client=str(client.ip) if client else None, port=port)
            return
        self.totals.access_denied += 1
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
            self._watch(task)
        if isinstance(upstream, MemoryTransport):
            stream.target = "memory"
            stream.connection_made(upstream)
            upstream.set_protocol(stream)
        else:
            dial = self._as_dial(stream, upstream)
            stream.preface = self._proxy_header(dial, stream, request)
            policies = self._env.backend().target_policies
            target = await self._env.dialer().connect(dial.targets, stream, self._left(dial, begun), policies)
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
            upstream = Dial(parse_targets(upstream), self._env.dialer().timeout)
        elif isinstance(upstream, Target):
            upstream = Dial((upstream,), self._env.dialer().timeout)
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
        backend = self._env.backend()
        return ConnectRequest(
            backend=backend.name,
            stream_id=stream.id,
            hostname=normalise_hostname(request.hostname),
            original_hostname=request.hostname,
            port=request.conn_port,
            client_address=request.client_ip,
            is_tls=request.is_tls,
            transport=request.transport,
            tenant=backend.tenant,
        )

    def _turn_away(self, stream: Stream, event: str, request: Connect, reason: str = Reason.DIAL_FAILED) -> None:
        key = (self.node.address, stream.target or request.hostname, event)
        if self._env.once.allows(key, group=(self.node.address, self._env.backend().key)):
            self._log.warning(
                event,
                target=stream.target or None,
                hostname=request.hostname,
                port=request.conn_port,
                stream=stream.id,
            )
        stream.end(reason)
        self.usage.refused += 1
        if self._env.emit is not None:
            self._env.emit(StreamRefused(self.info_of(stream), reason, event))

    # -- what streams say --------------------------------------------------------------------------------------

    def send_data(self, stream: Stream, payload: bytes | memoryview) -> None:
        """Send one data message of a stream that may send."""
        self.core.send_data(stream.state, payload, self._loop.time())
        self._flush()

    def send_read(self, stream: Stream, size: int) -> None:
        """Send the ``size`` bytes that were read from a target into `read_buffer`."""
        message = self._env.buffers.message[: DATA_HEADER_LENGTH + size]
        self.core.send_message(stream.state, message, self._loop.time())
        self._flush()

    def consumed(self, stream: Stream, count: int) -> None:
        """The target took ``count`` messages."""
        self.core.consumed(stream.state, count)
        self._flush()

    def stream_ended(self, stream: Stream, reason: str) -> None:
        """The stream is over on our side."""
        self.core.end_stream(stream.state, reason)
        self._forget(stream)
        self._flush()

    def stream_begun(self, stream: Stream) -> None:
        """The stream will have a target."""
        stream.gate = self._env.gate()
        stream.gate.enter()
        self.usage.entered()
        self.live.add(stream)
        self._env.live.add(stream)

    def stream_gone(self, stream: Stream) -> None:
        """Nothing is left of the stream's target."""
        if stream in self.live:
            stream.gate.leave()
            stream.gate.owe(stream.owed_upload, stream.owed_download)
            stream.gone = True
            self.usage.left()
            if self._env.emit is not None and stream.connected:
                state = stream.state
                self._env.emit(
                    StreamClosed(
                        self.info_of(stream), stream.reason, stream.age, state.bytes_received, state.bytes_sent
                    )
                )
        self.live.discard(stream)
        self._env.live.discard(stream)
        self._note_idle()

    def stream_queued(self, stream: TcpStream, count: int) -> None:
        """``count`` more bytes wait for a target. Who has the most gives way where they become too many.

        Not reading the session meanwhile would stop every stream of it, and fill the node's lane, which costs users
        their connections who have nothing to do with the slow one (docs/adr/0005).
        """
        if stream.queued > self._env.backend().flow_control.max_buffer * BOUND_FACTOR * MAX_PAYLOAD:
            self.give_up(stream)
        elif (stream.queued >> 20) != (stream.queued - count >> 20):  # every MiB: summing up costs something
            waiting = [other for other in self.live if isinstance(other, TcpStream) and other.queued]
            if sum(other.queued for other in waiting) > SESSION_BOUND:
                self.give_up(max(waiting, key=lambda other: other.queued))

    def give_up(self, stream: Stream) -> None:
        """End a stream whose target is too slow, with what waits for it."""
        self.totals.buffer_full += 1
        if self._env.once.allows(("buffer_full", stream.target), group=self._env.backend().key):
            self._log.warning("stream given up: its target is too slow", target=stream.target, stream=stream.id)
        stream.end(Reason.BUFFER_FULL)
        stream.abort()

    def _flush(self, *, now: bool = False) -> None:
        """Send what the core has to say: in this turn of the loop, or at once."""
        connection, outgoing = self._connection, self.core.outgoing()
        if connection is None or not outgoing:
            return
        while outgoing:
            connection.send(outgoing.popleft())
        if now:
            connection.flush()


def covers(claims: Claims, request: Connect) -> bool:
    """Say whether a session with these claims could have been sent this stream."""
    ports = [route.port for route in claims.udp_routes] if request.transport == "udp" else claims.tcp_ports
    if request.hostname.startswith(f"{request.transport}:"):
        return request.conn_port in ports
    name = normalise_hostname(request.hostname)
    return name in claims.hostnames or "*." + name.partition(".")[2] in claims.hostnames
