"""The tokens of one session: the first, and the answers to the node's challenges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from relay.config import Claims, Credential, NodeConfig
from relay.events import ReauthCompleted, ReauthStarted, RelayEvent
from relay.protocol.endings import Ending
from relay.protocol.events import EndKind, Stage
from relay.protocol.handshake import Dialect
from relay.sessions.host import SessionHost
from relay.tasks import Tasks
from relay.tokens.issuer import TokenError
from relay.tokens.sources import dialect_of

REAUTH_ATTEMPTS: Final = 3

REAUTH_BURST: Final = 8
"""Answers to challenges for re-authentication that may be given without a pause."""


class Authenticator:
    """Gets tokens and sends them.

    Args:
        claims: what the tokens are minted from.
        dialect: of the session: a credential of the other dialect serves its successor only.
        tasks: of the session.
        send: hands a token to the protocol.
        fail: ends the session.
    """

    def __init__(
        self,
        host: SessionHost,
        node: NodeConfig,
        claims: Claims,
        dialect: Dialect,
        tasks: Tasks,
        log: structlog.stdlib.BoundLogger,
        send: Callable[[Stage, str, str, float], None],
        fail: Callable[[Ending], None],
    ) -> None:
        self._host, self._node, self._claims, self._dialect = host, node, claims, dialect
        self._tasks, self._log = tasks, log
        self._hand_over, self._fail = send, fail
        self._timings = host.shared.timings
        self._loop = asyncio.get_running_loop()
        self._source = host.token_source
        self.credential: Credential | None = host.config.credential
        """What the newest token was made with."""
        self.authenticated_at: float | None = None
        """When that token was sent, by the loop's clock."""
        self.handshake_sent_at: float | None = None
        """When the newest token of the handshake was sent, by the loop's clock."""
        self._challenge: tuple[Stage, str] = (Stage.HANDSHAKE, "")
        self._answering: asyncio.Task[None] | None = None
        self._answer_waits = False
        self._answer_due = 0.0

    async def first_token(self) -> str:
        """Return the token that the session begins with; `send` it when the connection is there.

        Raises:
            TokenError: there is none.
        """
        return await self._source(Stage.HANDSHAKE, "", self._claims)

    def send(self, stage: Stage, nonce: str, token: str) -> None:
        """Send a token."""
        now = self._loop.time()
        self.authenticated_at = now
        if stage is not Stage.REAUTH:
            self.handshake_sent_at = now
        self._hand_over(stage, nonce, token, now)

    def since_handshake(self) -> float | None:
        """Return the seconds since the newest token of the handshake was sent; None where none was."""
        return None if self.handshake_sent_at is None else self._loop.time() - self.handshake_sent_at

    def challenged(self, stage: Stage, nonce: str) -> None:
        """Answer a challenge, as soon as its turn comes. It takes the place of an earlier one."""
        self._challenge = (stage, nonce)
        if self._answer_waits:
            return  # it will be the answer to this newer challenge
        if self._answering is not None:
            self._answering.cancel()  # a newer challenge: the older answer is worth nothing any more
        self._answer_waits = True
        self._answering = self._tasks.spawn(self._answer())

    async def _answer(self) -> None:
        """Get a token for the newest challenge and send it."""
        # A node that asks all the time must not have a program started for each of its messages.
        await asyncio.sleep(max(0.0, self._answer_due - self._loop.time()))
        self._answer_waits = False
        stage, nonce = self._challenge
        if stage is Stage.REAUTH:
            pace = self._timings.reauth_pace
            self._answer_due = max(self._answer_due, self._loop.time() - REAUTH_BURST * pace) + pace
            self._tell(ReauthStarted)
        begun = self._loop.time()
        attempts = REAUTH_ATTEMPTS if stage is Stage.REAUTH else 1
        for attempt in range(attempts):
            if dialect_of(self._host.config) is self._dialect:
                # Else the credential was replaced by one for the other dialect, with which this session can do
                # nothing: the old one serves it until its successor is up.
                self._source = self._host.token_source
                self.credential = self._host.config.credential
            try:
                token = await self._source(stage, nonce, self._claims)
                break
            except Exception as error:
                problem = str(error) if isinstance(error, TokenError) else f"internal error ({type(error).__name__})"
                if stage is not Stage.REAUTH:
                    self._fail(Ending(EndKind.LOST, problem))
                    return
                self._log.warning(f"no token for the re-authentication: {problem}", attempt=attempt + 1)
                await asyncio.sleep(self._timings.reauth_retry)
        else:
            # The node will close the session when its grace is over.
            self._tell(ReauthCompleted, seconds=self._loop.time() - begun, problem=problem)
            return
        self.send(stage, nonce, token)
        if stage is Stage.REAUTH:
            self._tell(ReauthCompleted, seconds=self._loop.time() - begun, problem="")

    def _tell(self, event: Callable[..., RelayEvent], **fields: object) -> None:
        if self._host.shared.emit is not None:
            backend = self._host.config
            self._host.shared.emit(event(backend.name, backend.tenant, self._node.address, **fields))
