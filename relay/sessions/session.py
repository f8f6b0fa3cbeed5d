"""One session with a node: the protocol's core, its WebSocket and its streams."""

from __future__ import annotations

import asyncio
import itertools
import math
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import structlog

from relay.config import Claims, NodeConfig
from relay.events import StreamConnected, StreamInfo
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
from relay.protocol.frames import DATA_HEADER_LENGTH
from relay.protocol.handshake import Dialect, HandshakeState
from relay.protocol.session import SessionCore
from relay.protocol.states import advance
from relay.protocol.stream import StreamState
from relay.protocol.times import HealthTimes
from relay.sessions.authenticator import Authenticator
from relay.sessions.host import SessionHost
from relay.sessions.opener import Opener
from relay.sessions.phases import SESSION_TRANSITIONS, SessionPhase, SessionStep
from relay.sessions.snapshot import SessionSnapshot
from relay.sessions.stream_book import StreamBook
from relay.sessions.streams import Stream
from relay.sessions.totals import Totals
from relay.sessions.usage import Usage
from relay.tasks import Tasks
from relay.tokens.issuer import TokenError
from relay.transport.connection import NodeConnection
from relay.transport.frames import Buffer
from relay.transport.opening import ConnectFailed

_numbers = itertools.count(1)

COSTLY_A_TURN: Final = 4
"""Streams that begin or end in one turn of the loop. Each costs as much as a hundred messages, most of it in later
turns (dials), and the sessions of other backends wait for it."""

_COSTLY: Final = frozenset({StreamOpened, StreamEnded})


class Session:
    """One session, from its WebSocket to its end. A new one is made for each attempt: nothing leaks from the old.

    Args:
        node: where to.
        claims: what the session serves; its tokens are minted from these to its end, whatever is edited since.
        dialect: which handshake.
    """

    def __init__(
        self, host: SessionHost, node: NodeConfig, claims: Claims, dialect: Dialect, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._host = host
        self._shared = host.shared
        self.timings = host.shared.timings
        self.number = next(_numbers)
        """Which session of this process it is."""
        self.node = node
        self.claims = claims
        self._log = log
        self.core = SessionCore(dialect, health=self._health(), times=self.timings.protocol)
        self.totals = Totals()
        self._message = host.shared.buffers.message
        self.read_buffer = host.shared.buffers.target
        self._tasks = Tasks(log)
        self.authenticator = Authenticator(host, node, claims, dialect, self._tasks, log, self._send_token, self._end)
        self.opener = Opener(host, self, self._tasks, log)
        # Streams that wait for the socket, the longest wait first.
        self._blocked: OrderedDict[Stream, None] = OrderedDict()
        self._received: list[Event] = []
        self._costly = 0
        self.phase = SessionPhase.OPENING
        self.only: Claims | None = None
        """While the session is replaced: the newer claims; what they do not cover is served by its last routes."""
        self.turned_away = False
        self._drained = False
        self.last_opened = -math.inf
        """When the newest user came who was not turned away, by the loop's clock."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self.up = asyncio.Event()
        """The node has taken the session."""
        self.book = StreamBook(host, self.core, node, self.totals, log)
        self.live = self.book.live
        self.usage: Usage
        self._connection: NodeConnection | None = None
        self._opened_at = self._loop.time()
        self._ticker: asyncio.TimerHandle | None = None

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Open the session and serve it to its end. Cancelling it drops it."""
        self.usage = self.book.usage = self._host.usage
        self.usage.session_begun(self.core.counters)
        self._shared.sessions.add(self)
        try:
            try:
                async with self._shared.opening(self.node.address):
                    # Before the node is called: it waits 10 s for a token, a command may take longer.
                    token = await self.authenticator.first_token()
                    self._connection = await self._shared.nodes.open(self.node, self, self._shared.buffers.session)
            except ConnectFailed as failure:
                return failure.ending
            except TokenError as error:
                return Ending(EndKind.LOST, str(error))
            self._tick()
            self.core.start()
            self.authenticator.send(Stage.HANDSHAKE, "", token)
            ending = await asyncio.shield(self.ended)
            # Where the end is ours the node may have taken the session already: it must not keep it in its pool.
            await self._connection.close(timeout=self.timings.broken_close_timeout)
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
        return self._host.config.tenant

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

    def replace_by(self, claims: Claims) -> None:
        """Serve what is there until a quiet instant: a newer session, with these claims, is up."""
        self.only = claims
        if self.phase is SessionPhase.UP:
            self._advance(SessionStep.REPLACED)

    def drain(self) -> None:
        """Note that the session is to end. It serves until it is closed: the node goes on sending it users."""
        self._drained = True
        if self.phase in (SessionPhase.UP, SessionPhase.REPLACED):
            self._advance(SessionStep.DRAINED)

    def serve_on(self) -> None:
        """Note that the session is not to end after all."""
        self._drained = False
        if self.phase is SessionPhase.DRAINING:
            self._advance(SessionStep.DRAIN_TAKEN_BACK)
            if self.only is not None:
                self._advance(SessionStep.REPLACED)

    def _taken(self) -> None:
        self.up.set()
        self._advance(SessionStep.TAKEN)
        if self.only is not None:
            self._advance(SessionStep.REPLACED)
        if self._drained:
            self._advance(SessionStep.DRAINED)

    def _advance(self, step: SessionStep) -> None:
        self.phase = advance(SESSION_TRANSITIONS, self.phase, step)

    def snapshot(self) -> SessionSnapshot:
        """Return what the session is doing."""
        return SessionSnapshot(
            number=self.number,
            node=self.node.address,
            state=self.phase.value,
            dialect=self.core.dialect.value,
            age=self.age,
            streams=self.streams,
            claims=self.claims,
            credential=self.authenticator.credential,
            authenticated_at=self.authenticator.authenticated_at,
        )

    def all_began_before(self, instant: float) -> bool:
        """Say whether all that is left to carry began before an instant of the loop's clock."""
        age = self._loop.time() - instant
        return all(stream.age > age for stream in self.live)

    def quiet_for(self) -> float:
        """Seconds since the last user came who was not turned away, 0 while any is live."""
        return 0.0 if self.core.streams else self._loop.time() - max(self.last_opened, self._opened_at)

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)
            self._advance(SessionStep.ENDED)
            self.book.idle.set()

    def _clean_up(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._tasks.cancel()
        for state in list(self.core.streams.values()):
            if isinstance(state.context, Stream):
                state.context.abort()
        self.core.streams.clear()
        self._blocked.clear()
        if self._connection is not None:
            self._connection.abort(ConnectionAbortedError("session over"))
        self.usage.session_ended(self.core.counters)
        self._shared.sessions.discard(self)
        self._end(Ending(EndKind.CLOSED, "closed by the relay"))

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(self.timings.tick, self._tick)
        connection = self._connection
        if connection is not None:
            connection.check()
        self.core.health = self._health()
        self._dispatch(self.core.tick(self._loop.time(), None if connection is None else connection.heard_at))
        if connection is not None and self.core.wants_answer:
            connection.ping()
        self.book.tell_of_pauses()
        self._note_up()

    def _health(self) -> HealthTimes:
        checks = self._host.config.health_checks
        return HealthTimes(checks.inactivity_timeout if checks.enabled else 0, checks.pong_timeout)

    def _note_up(self) -> None:
        since = self.authenticator.since_handshake()
        if self.up.is_set() or self.core.state is not HandshakeState.OPEN or since is None or self.ended.done():
            return
        if self.core.confirmed or since >= self.timings.confirmed_after:
            self._taken()

    # -- connection.Receiver -----------------------------------------------------------------------------------

    def text_received(self, text: str) -> None:
        self._dispatch(self.core.receive_text(text, self._loop.time()))

    def binary_received(self, message: Buffer) -> bool:
        events = self.core.receive_binary(message, self._loop.time())
        self._received += events
        if not events or type(events[0]) not in _COSTLY:
            return False
        self._costly += 1
        return self._costly >= COSTLY_A_TURN

    def late_received(self, message: Buffer) -> None:
        if self.core.is_connect(message):
            self.totals.too_late += 1
            self._shared.too_late += 1
            self.usage.refused += 1

    def batch_received(self) -> None:
        # The first grants of new streams leave before anything else happens: until they arrive the users' data is
        # unlimited.
        self._flush(now=True)
        received, self._received, self._costly = self._received, [], 0
        self._dispatch(received)
        if not self.up.is_set():
            self._note_up()

    def writing_resumed(self) -> None:
        # In the order in which they had to stop, each one message: round robin.
        blocked = self._blocked
        while blocked and not self.write_blocked:
            stream, _ = blocked.popitem(last=False)
            stream.writable()
        self._flush()

    def connection_ended(self, code: int, reason: str, error: Exception | None) -> None:
        known = isinstance(error, TimeoutError) or (isinstance(error, ConnectionError) and self.up.is_set())
        if known and str(error):
            self._end(Ending(EndKind.LOST, str(error)))
            return
        since = self.authenticator.since_handshake()
        self._end(
            classify(
                code,
                reason,
                token_sent=since is not None,
                confirmed=self.core.confirmed or self.up.is_set(),
                since_token=since or 0.0,
                times=self.timings.protocol,
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
                    self.authenticator.challenged(stage, nonce)
                case SessionFailed(kind=kind, problem=problem):
                    self._end(Ending(kind, problem))
        self._flush()

    def _send_token(self, stage: Stage, nonce: str, token: str, now: float) -> None:
        self.core.send_token(stage, nonce, token, now)
        self._flush()

    def _stream_opened(self, state: StreamState) -> None:
        if state.request is None:
            state.context.opened(state)
            return
        self.opener.open(state, state.request)

    def refuse(self, state: StreamState, reason: str) -> None:
        """Tell the node that a stream is not taken."""
        self.core.end_stream(state, reason)
        self._flush()

    def over_limit(self, hostname: str) -> bool:
        """Say whether one more stream would be too many for a limit; if so, count it and tell of it."""
        return self.opener.over_limit(hostname)

    def open_outbound(self, target_addr: str, context: Stream) -> StreamState:
        """Ask the node to dial; ``context`` is told ``opened`` or ``failed``."""
        state = self.core.open_outbound(uuid.uuid4().bytes, target_addr, self._loop.time())
        state.context = context
        self.book.idle.clear()
        self._flush()
        return state

    def outbound_connected(self, stream: Stream) -> None:
        """A local program has its outbound stream."""
        stream.connected = True
        self.usage.streams += 1
        if self._shared.emit is not None:
            self._shared.emit(StreamConnected(self.info_of(stream)))

    def _stream_finished(self, stream: Stream) -> None:
        self._forget(stream)
        if not stream.ended:
            stream.finish()

    def _forget(self, stream: Stream) -> None:
        self._blocked.pop(stream, None)
        self.book.note_idle()

    # -- what streams say --------------------------------------------------------------------------------------

    def send_data(self, stream: Stream, payload: bytes | memoryview) -> None:
        """Send one data message of a stream that may send."""
        self.core.send_data(stream.state, payload, self._loop.time())
        self._flush()

    def send_read(self, stream: Stream, size: int) -> None:
        """Send the ``size`` bytes that were read from a target into `read_buffer`."""
        message = self._message[: DATA_HEADER_LENGTH + size]
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
        self.book.begun(stream)

    def stream_gone(self, stream: Stream) -> None:
        self.book.gone(stream)

    def stream_queued(self, stream: Stream, count: int) -> None:
        self.book.queued(stream, count)

    def give_up(self, stream: Stream) -> None:
        self.book.give_up(stream)

    def info_of(self, stream: Stream) -> StreamInfo:
        return self.book.info_of(stream)

    def _flush(self, *, now: bool = False) -> None:
        """Send what the core has to say: in this turn of the loop, or at once."""
        connection, outgoing = self._connection, self.core.outgoing()
        if connection is None or not outgoing:
            return
        while outgoing:
            connection.send(outgoing.popleft())
        if now:
            connection.flush()
