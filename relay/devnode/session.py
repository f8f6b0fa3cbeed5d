"""One session at the node: it authenticates in either dialect, then carries streams (docs/protocol.md, "Session")."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from relay.config import Claims
from relay.devnode.counters import NodeCounters
from relay.devnode.outbound import OutboundRefused, dial
from relay.devnode.tokens import check_token, claims_the_same, is_too_old, nonce_mismatch
from relay.devnode.verifier import VerifierAway, VerifierUnreachable, ask, is_up
from relay.protocol import messages
from relay.protocol.frames import CONTROL, DATA, DATA_HEADER_LENGTH, control_frame, data_frame
from relay.tokens.claims import TokenClaims
from relay.tokens.jwt import TokenRefused

if TYPE_CHECKING:
    from relay.devnode.hub import HubConnection
    from relay.devnode.node import DevNode
    from relay.devnode.stream import NodeStream

_logger = logging.getLogger(__name__)

POLICY_VIOLATION = 1008


class Phase(Enum):
    """Where a session stands."""

    HANDSHAKE = "stage0"
    ATTEST = "stage1"
    UP = "up"
    DEAD = "dead"
    ENDED = "ended"


class NodeSession:
    """One session.

    Attributes:
        connection: its WebSocket.
        claims: what it serves, frozen when it authenticated.
        counters: its counts.
        streams: by stream id.
        phase: DEAD is a session that was lost uncleanly and still stands in the pool.
    """

    def __init__(self, node: DevNode, connection: HubConnection) -> None:
        self.node = node
        self.connection = connection
        self.attested = node.options.attested
        self.claims = Claims()
        self.counters = NodeCounters()
        self.streams: dict[bytes, NodeStream] = {}
        self.phase = Phase.HANDSHAKE
        self._loop = asyncio.get_running_loop()
        self._checked = TokenClaims(Claims())
        self._nonce = ""
        self._reauth_nonce = ""
        self._timer: asyncio.TimerHandle | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<NodeSession {self.phase.value} {','.join(self.claims.hostnames)} streams={len(self.streams)}>"

    @property
    def hostnames(self) -> tuple[str, ...]:
        """The hostnames served, sorted."""
        return self.claims.hostnames

    # -- to the client

    def open(self, stream: NodeStream, message: messages.Connect) -> bool:
        """Announce ``stream``; False when the lane was full, and then the user is to be dropped."""
        if self.attested:
            message = replace(message, credits=self.node.options.credits)
        else:
            message = replace(message, transport="", is_tls=False)
        if not self.node.faults.loses_connect() and not self.connection.offer(
            control_frame(messages.encode(message)), stream.stream_id
        ):
            self.counters.connects_dropped += 1
            return False
        self._register(stream)
        return True

    def send_data(self, stream_id: bytes, payload: bytes | bytearray | memoryview) -> bool:
        """Queue a data message; False when the lane was full."""
        if not self.connection.offer(data_frame(stream_id, payload), stream_id):
            self.counters.data_dropped += 1
            return False
        self.counters.messages_out += 1
        self.counters.bytes_out += len(payload)
        return True

    def send_disconnect(self, stream_id: bytes, reason: str = "") -> None:
        """Queue a ``disconnect``; it gets lost when the lane is full."""
        if self.node.faults.loses_disconnect():
            return
        message = messages.Disconnect(stream_id, reason)
        if not self.connection.offer(control_frame(messages.encode(message)), stream_id):
            self.counters.disconnects_dropped += 1

    def send_grant(self, stream_id: bytes, credits: int) -> None:
        """Grant ``credits`` messages to the client."""
        if self.attested:
            self.counters.grants += 1
            self._send_control(messages.ResumeStream(stream_id, credits))

    def forget(self, stream_id: bytes) -> bool:
        """Take a stream out; False when it was not there."""
        if self.streams.pop(stream_id, None) is None:
            return False
        self.counters.streams_closed += 1
        self.node.changed()
        return True

    def challenge_again(self) -> None:
        """Ask for re-authentication now, as when the interval is over."""
        if self.phase is Phase.UP and self.attested:
            self._reauth_nonce = self._challenge(messages.REAUTH_CHALLENGE)
            self._after(self._checked.reauth_grace or self.node.options.reauth_grace, self._reauth_late)

    def bury(self) -> None:
        """End a dead session for good."""
        if self.phase is Phase.DEAD:
            self._end()

    # -- MessageHandler: from the connection

    def opened(self) -> None:
        """Wait for the first token."""
        self._after(self.node.options.token_wait, self._token_late)

    def text(self, message: str) -> None:
        """Take a token."""
        match self.phase:
            case Phase.HANDSHAKE | Phase.ATTEST if self._asking is not None:
                self._refuse("a token came before the answer to the one before it")
            case Phase.HANDSHAKE:
                self._check(message, self._take_handshake)
            case Phase.ATTEST if not self._nonce:
                self._refuse("attested token came before its challenge")
            case Phase.ATTEST:
                self._check(message, self._take_attested)
            case Phase.UP if self._reauth_nonce:
                self._take_reauth(message)
            case Phase.UP:
                self.counters.unexpected_text += 1

    def binary(self, message: bytes) -> None:
        """Take a binary frame."""
        if self.phase in (Phase.HANDSHAKE, Phase.ATTEST):
            self._refuse(f"expected text frame for {self.phase.value} token, got type 2")
        elif self.phase is Phase.UP and message:
            self._take_message(message)

    def closed(self, *, clean: bool) -> None:
        """The socket is gone. An unclean loss leaves the session in the pool until `bury`."""
        self._cancel_timer()
        if self.phase is not Phase.UP:
            self.phase = Phase.ENDED
            return
        linger = self.node.options.dead_session_linger
        if clean or linger <= 0 or self.node.stopping:
            self._end()
            return
        self.phase = Phase.DEAD
        _logger.info("session lost uncleanly; it stays in the pool for %g s: %r", linger, self)
        self.node.session_died(self)
        self._after(linger, self.bury)

    # -- authentication

    def _take_handshake(self, checked: TokenClaims) -> None:
        self._checked = checked
        if not self.attested:
            self._up()
            return
        self.phase = Phase.ATTEST
        faults = self.node.faults
        if faults.never_challenge:
            self._cancel_timer()
        elif faults.challenge_delay > 0:
            self._after(faults.challenge_delay, self._challenge_handshake)
        else:
            self._challenge_handshake()

    def _challenge_handshake(self) -> None:
        self._nonce = self._challenge(messages.HANDSHAKE_CHALLENGE)
        self._after(self.node.options.token_wait, self._token_late)

    def _take_attested(self, checked: TokenClaims) -> None:
        if (checked.session_nonce or "") != self._nonce:
            self._refuse(nonce_mismatch(self._nonce, checked))
        elif not claims_the_same(self._checked.claims, checked):
            self._refuse("attested claims differ from the handshake's")
        else:
            self._checked = replace(checked, claims=self._checked.claims)
            self._up()

    def _take_reauth(self, token: str) -> None:
        expected, self._reauth_nonce = self._reauth_nonce, ""

        def take(checked: TokenClaims | TokenRefused) -> None:
            if isinstance(checked, TokenRefused):
                unreachable = isinstance(checked, VerifierUnreachable)
                self._drop(f"reauth token validation failed: {checked}", abruptly=unreachable)
            elif (checked.session_nonce or "") != expected:
                self._drop(nonce_mismatch(expected, checked))
            elif not claims_the_same(self.claims, checked):
                self._drop("reauth claims differ from the session's")
            else:
                self._checked = replace(checked, claims=self.claims)
                self.counters.reauths += 1
                self._schedule_reauth()
                self.node.changed()

        self._validate(token, take)

    def _check(self, token: str, take: Callable[[TokenClaims], None]) -> None:
        """Hand the checked token on, or refuse it and close the session."""
        faults = self.node.faults
        if faults.refuse_abruptly:
            self._refuse("", abruptly=True)
            return
        if faults.refuse_reason is not None:
            self._refuse(faults.refuse_reason)
            return
        stage = self.phase

        def judge(checked: TokenClaims | TokenRefused) -> None:
            if isinstance(checked, TokenRefused):
                unreachable = isinstance(checked, VerifierUnreachable)
                self._refuse(f"{stage.value} token validation failed: {checked}", abruptly=unreachable)
            elif stage is Phase.HANDSHAKE and is_too_old(checked):
                self._refuse(f"{stage.value} token validation failed: handshake token is too old")
            elif problem := self.node.claims_problem(checked.claims):
                self._refuse(f"{stage.value} token validation failed: {problem}")
            else:
                take(checked)

        self._validate(token, judge)

    def _validate(self, token: str, take: Callable[[TokenClaims | TokenRefused], None]) -> None:
        """Hand on what the node's secret, or its verifier, has to say of the token."""
        if self.node.options.verifier_url:
            self._asking = self._loop.create_task(self._ask(token, take))
        else:
            take(self._checked_here(token))

    def _checked_here(self, token: str) -> TokenClaims | TokenRefused:
        try:
            return check_token(token, self.node.secret, attested=self.attested)
        except TokenRefused as error:
            return error

    async def _ask(self, token: str, take: Callable[[TokenClaims | TokenRefused], None]) -> None:
        checked: TokenClaims | TokenRefused
        try:
            checked = await ask(self.node.options, token)
        except VerifierAway as error:
            _logger.warning("the verifier is away: %s", error)
            checked = self._checked_here(token) if self.node.secret else error
        except TokenRefused as error:
            checked = error
        self._asking = None
        if self.phase not in (Phase.DEAD, Phase.ENDED):
            take(checked)

    def _up(self) -> None:
        self._cancel_timer()
        self.claims = self._checked.claims
        self.phase = Phase.UP
        self.counters.sessions += 1
        self._schedule_reauth()
        self.node.session_up(self)

    def _challenge(self, kind: str) -> str:
        nonce = secrets.token_urlsafe(32)
        shown = "" if self.node.faults.empty_nonce else nonce
        self.connection.send_urgent(json.dumps({"type": kind, "nonce": shown}, separators=(",", ":")))
        return nonce

    def _schedule_reauth(self) -> None:
        self._cancel_timer()
        interval = self._checked.reauth_interval or 0
        if self.attested and interval > 0:
            jitter = random.uniform(-1, 1) * self.node.options.reauth_jitter
            self._after(interval * (1 + jitter), self._reauth_due)

    def _reauth_due(self) -> None:
        """Challenge, or first see whether the authorizer can be asked."""
        if address := self._checked.authorizer_status_uri:
            self._asking = self._loop.create_task(self._challenge_when_up(address, self._loop.time()))
        else:
            self.challenge_again()

    async def _challenge_when_up(self, address: str, due: float) -> None:
        """Put the challenge off while the authorizer is in maintenance, as long as the claims allow."""
        while not await is_up(self.node.options, address):
            if self._loop.time() - due >= (self._checked.maintenance_grace_cap or self.node.options.maintenance_grace):
                break
            await asyncio.sleep(self.node.options.status_retry)
        self._asking = None
        self.challenge_again()

    def _token_late(self) -> None:
        self._refuse(f"timed out waiting for {self.phase.value} token")

    def _reauth_late(self) -> None:
        self._drop("timed out waiting for reauth token")

    def _refuse(self, reason: str, *, abruptly: bool = False) -> None:
        _logger.info("refused a token: %s", reason or "abruptly")
        self.counters.refusals += 1
        self.node.retire(self)
        self._cancel_timer()
        self.phase = Phase.ENDED
        self._hang_up(reason, abruptly=abruptly)

    def _drop(self, reason: str, *, abruptly: bool = False) -> None:
        """End a session that was up, and cut its streams."""
        _logger.info("dropped %r: %s", self, reason)
        self._hang_up(reason, abruptly=abruptly)
        self._end()

    def _hang_up(self, reason: str, *, abruptly: bool) -> None:
        if abruptly:
            self.connection.abort()
        else:
            self.connection.close(POLICY_VIOLATION, reason)

    # -- messages

    def _take_message(self, message: bytes) -> None:
        if message[0] == DATA:
            if len(message) < DATA_HEADER_LENGTH:
                self.counters.malformed += 1
                return
            self.counters.messages_in += 1
            self.counters.bytes_in += len(message) - DATA_HEADER_LENGTH
            stream = self.streams.get(message[1:DATA_HEADER_LENGTH])
            if stream is None:
                self.counters.unknown_data += 1
            else:
                stream.deliver(message[DATA_HEADER_LENGTH:])
        elif message[0] == CONTROL:
            self._take_control(messages.parse_control(message[1:]))
        else:
            self.counters.malformed += 1

    def _take_control(self, message: messages.Parsed) -> None:
        match message:
            case messages.Disconnect(stream_id, reason):
                self._take_disconnect(stream_id, reason)
            case messages.PingClient(stream_id):
                self.counters.pings += 1
                if stream_id in self.streams and not self.node.faults.ignore_pings:
                    self.counters.pongs += 1
                    self._send_control(messages.PongClient(stream_id))
            case messages.PauseStream(stream_id) if self.attested:
                if stream := self.streams.get(stream_id):
                    stream.pause(True)
            case messages.ResumeStream(stream_id, credits) if self.attested:
                if stream := self.streams.get(stream_id):
                    if credits:
                        stream.grant(credits)
                    else:
                        stream.pause(False)
            case messages.OutboundConnect() if self.attested:
                task = self._loop.create_task(self._dial(message))
                self._dials.add(task)
                task.add_done_callback(self._dials.discard)
            case messages.Malformed(problem):
                self.counters.malformed += 1
                _logger.debug("malformed message from the client: %s", problem)

    def _take_disconnect(self, stream_id: bytes, reason: str) -> None:
        if reason == messages.Reason.UNKNOWN:
            self.counters.unknown_disconnects += 1
        self.counters.disconnect_reasons[reason] = self.counters.disconnect_reasons.get(reason, 0) + 1
        stream = self.streams.get(stream_id)
        if stream is None:
            self.counters.late_disconnects += 1
            return
        self.forget(stream_id)
        stream.finish()

    async def _dial(self, request: messages.OutboundConnect) -> None:
        if request.stream_id in self.streams:
            self._send_control(messages.OutboundResult(request.stream_id, reason="stream id is in use"))
            return
        try:
            stream = await dial(self, request)
        except OutboundRefused as error:
            self._send_control(messages.OutboundResult(request.stream_id, reason=str(error)))
            return
        if self.phase is not Phase.UP:
            stream.cut()
            return
        self._register(stream)
        self._send_control(messages.OutboundResult(request.stream_id, success=True, credits=self.node.options.credits))
        stream.window_changed()

    # -- inside

    def _register(self, stream: NodeStream) -> None:
        self.streams[stream.stream_id] = stream
        self.counters.streams_opened += 1
        self.node.changed()

    def _send_control(self, message: messages.ControlMessage) -> None:
        self.connection.send_urgent(control_frame(messages.encode(message)))

    def _end(self) -> None:
        """Leave the pool and cut every stream."""
        if self.phase is Phase.ENDED:
            return
        self.phase = Phase.ENDED
        self._cancel_timer()
        for task in self._dials:
            task.cancel()
        if self._asking is not None and self._asking is not asyncio.current_task():
            self._asking.cancel()
        streams, self.streams = list(self.streams.values()), {}
        self.counters.streams_cut += len(streams)
        self.counters.streams_closed += len(streams)
        for stream in streams:
            stream.cut()
        self.connection.lane.clear()
        self.node.session_ended(self)

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
