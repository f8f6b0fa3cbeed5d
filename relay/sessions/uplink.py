"""One session kept up for one (backend, node): reconnected, and replaced make before break."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import Final

from relay.config import Claims, NodeConfig, PresignedToken
from relay.errors import InvalidValue
from relay.events import SessionDown, SessionUp
from relay.logs import get_logger
from relay.protocol.endings import LIKELY_REMEDY, Ending
from relay.protocol.events import EndKind
from relay.protocol.states import advance
from relay.sessions.backoff import Backoff
from relay.sessions.host import SessionHost
from relay.sessions.phases import UPLINK_TRANSITIONS, UplinkState, UplinkStep
from relay.sessions.session import Session
from relay.sessions.snapshot import UplinkSnapshot
from relay.tasks import cancel
from relay.timings import Timings
from relay.tokens.sources import dialect_of, expiry_note, session_claims

MOST_REPLACED: Final = 32
"""Replaced sessions of one backend at one node that wait for a quiet instant; of more, that with the fewest streams is
cut. A backend that is edited all the time, with a stream in each session, would have them by the hundred."""


class Uplink:
    """One (backend, node). `start` it; tell it of edits with `changed`; end it with `stop`."""

    def __init__(self, host: SessionHost, node: NodeConfig) -> None:
        self.node = node
        self._host = host
        self._timings = host.shared.timings
        self._log = get_logger("relay.sessions.session", node=node.shown)
        self._backoff = Backoff(self._timings, self._now)
        self._current: Session | None = None
        self._since = 0.0
        self._running: dict[Session, asyncio.Task[Ending]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._woken = False
        self._state = UplinkState.CONNECTING
        self._problem = ""
        self._refused = False
        self._lost = False  # a session was, and none has been taken since
        self._changed_at = self._now()
        self._attempts = 0  # that failed since the last success
        self._next_try: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: dict[Session, asyncio.Task[None]] = {}
        """Sessions whose Close has left, or is about to."""

    def start(self) -> None:
        """Begin to keep a session up."""
        self._task = asyncio.create_task(self._run())

    def changed(self) -> None:
        """The backend's claims or credential changed: act on it at once, whatever failed before."""
        self._backoff.reset()
        self.retry_now()

    def retry_now(self) -> None:
        """End any wait: the network is back."""
        self._woken = True
        self._wake.set()

    async def stop(self, drain: float) -> None:
        """Serve on until a quiet instant of each session, at most ``drain`` seconds; close cleanly.

        The node goes on sending users until the session closes, and knows no way to be told not to: whom it sends is
        served.
        """
        await cancel(self._task)
        for retirement in list(self._retiring):
            await cancel(retirement)
        self._advance(UplinkStep.STOP)
        leaving = [asyncio.create_task(self._leave(session, drain)) for session in self.sessions()]
        try:
            await asyncio.gather(*leaving)
        finally:
            for leave in leaving:
                leave.cancel()
        if self._closing:
            await asyncio.wait(self._closing.values())
        for task in list(self._running.values()):
            await cancel(task)

    async def _leave(self, session: Session, drain: float) -> None:
        """Close a session at a quiet instant, or after ``drain`` seconds."""
        if session in self._closing:
            return
        session.drain()
        await self._quiet(session, drain)
        if session is self._current:
            self._current = None
        self._closing[session] = closing = asyncio.create_task(self._close(session))
        closing.add_done_callback(lambda _: self._closing.pop(session, None))

    async def _quiet(self, session: Session, drain: float) -> None:
        """Wait for an instant without a stream; a while longer is better, and at the end what came first may remain."""
        loop, idle = asyncio.get_running_loop(), session.book.idle
        begun = loop.time()
        deadline = begun + drain
        look = deadline - last_look(self._timings, drain)
        while not session.ended.done():
            now = loop.time()
            if now >= deadline:
                return
            if now >= look and session.all_began_before(begun) and await nobody_comes(session):
                return
            lull = next((lull for until, lull in self._timings.drain_steps if now - begun < until), 0.0)
            if idle.is_set():
                pause = session.last_opened + lull - now
                if pause > 0:
                    await asyncio.sleep(min(pause, deadline - now))
                elif await nobody_comes(session):
                    return
            else:
                pause = self._timings.drain_poll if now >= look else look - now
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await idle.wait()

    async def _close(self, session: Session) -> None:
        was_up = session.up.is_set() and session.only is None and not session.ended.done()
        await session.close()
        if was_up:
            self._say(logging.INFO, "session closed by the relay", **_lost(session))
            self._tell_down(True, "closed by the relay", None)

    def resume(self, stopping: asyncio.Task[None]) -> bool:
        """Take back a `stop` that still drains: its sessions serve on. Say whether it was in time.

        Args:
            stopping: the task that stops this uplink.
        """
        if self._closing and not self._running.keys() - self._closing.keys():
            return False
        self._advance(UplinkStep.RESUME)
        serving = self._task
        for task in (stopping, serving):
            if task is not None:
                task.cancel()
        self._task = asyncio.create_task(self._serve_on(stopping, serving))
        return True

    async def _serve_on(self, *before: asyncio.Task[None] | None) -> None:
        for task in before:
            await cancel(task)
        for session in self._running.keys() - self._closing.keys():
            session.serve_on()
            if session is not self._current:
                self._begin_retiring(session)
        self._say(logging.INFO, "drain taken back", sessions=len(self._running))
        await self._run()

    @property
    def current(self) -> Session | None:
        """The session that the node has taken and that is not being replaced."""
        return self._current

    def sessions(self) -> list[Session]:
        """Return the sessions that live: the current one, one being opened, those being replaced."""
        return list(self._running)

    def status(self) -> UplinkSnapshot:
        """Return what the uplink is doing."""
        return UplinkSnapshot(
            node=self.node.address,
            state=self._state.value,
            problem=self._problem,
            since=self._changed_at,
            attempts=self._attempts,
            next_try=self._next_try,
            streams=sum(session.streams for session in self._running),
            sessions=len(self._running),
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _advance(self, step: UplinkStep) -> None:
        self._state = advance(UPLINK_TRANSITIONS, self._state, step)

    # -- the loop ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._keep_up()
            except Exception as error:
                # Whatever one backend makes break here must not leave it without a session for good.
                self._problem = f"internal error ({type(error).__name__}): see the log"
                delay = self._backoff.next(EndKind.LOST, 0.0)
                self._failed(EndKind.LOST, delay)
                self._log.exception("session uplink broke", **self._fields(), retry_in_seconds=round(delay, 1))
                self._wake.clear()
                await self._wait(delay)

    async def _keep_up(self) -> None:
        delay = 0.0
        while True:
            self._wake.clear()
            if self._woken:
                self._woken, delay = False, 0.0
            current = self._current
            if current is not None and current.ended.done():
                self._current, self._changed_at, self._attempts = None, self._now(), 0
                delay = self._over(current.ended.result(), time.monotonic() - self._since)
                continue
            try:
                claims = session_claims(self._host.config)
            except InvalidValue as error:
                self._problem, self._refused, self._next_try = str(error), False, None
                self._say(logging.ERROR, f"session not opened: {error}")
                await self._wait(None)
                continue
            if current is not None and self._is_served_by(current, claims):
                self._settled()
                await self._wait(None)
            elif delay:
                await self._wait(delay)
                delay = 0.0
            else:
                delay = await self._attempt(claims)

    def _is_served_by(self, current: Session, claims: Claims) -> bool:
        """Say whether a session is what the configuration asks for.

        Nothing asks for a pre-signed token again. So a new one is shown to the node at once, while the session of the
        one before still serves: who put it there learns whether the node takes it before anything depends on it.
        """
        backend = self._host.config
        newer = (
            isinstance(backend.credential, PresignedToken) and current.authenticator.credential != backend.credential
        )
        return current.serves(claims, dialect_of(backend)) and not newer

    async def _wait(self, delay: float | None) -> None:
        """Wait to be woken (a change, the end of the current session), at most ``delay`` seconds."""
        if self._current is not None:
            self._advance(UplinkStep.UP)
        else:
            self._advance(UplinkStep.REFUSE if self._refused else UplinkStep.PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    async def _attempt(self, claims: Claims) -> float:
        """Try one new session. Return the delay (seconds) before the next, 0 where it is up."""
        self._next_try = None
        if self._current is None:
            self._advance(UplinkStep.ATTEMPT)
        backend = self._host.config
        session = Session(self._host, self.node, claims, dialect_of(backend), self._log.bind(**self._fields()))
        task = self._running[session] = asyncio.create_task(session.run())
        task.add_done_callback(lambda _: self._gone(session))
        up = asyncio.create_task(session.up.wait())
        try:
            await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if task.done():
            return self._over(task.result(), 0.0)
        previous, self._current, self._since = self._current, session, time.monotonic()
        task.add_done_callback(lambda _: self._wake.set())
        self._advance(UplinkStep.UP)
        self._settled()
        self._host.session_book.connected(again=self._lost)
        self._lost = False
        if previous is None:
            self._changed_at = self._now()
        for older in self._running.keys() - {session}:
            older.replace_by(claims)
        if previous is not None and not previous.ended.done():
            self._begin_retiring(previous)
        self._say(logging.INFO, "session replaced" if previous else "session up", hostnames=list(claims.hostnames))
        if self._host.shared.emit is not None:
            backend = self._host.config
            self._host.shared.emit(SessionUp(backend.name, backend.tenant, self.node.address, previous is not None))
        return 0.0

    def _gone(self, session: Session) -> None:
        self._running.pop(session, None)
        self._host.session_book.ended(session.totals)

    def _begin_retiring(self, session: Session) -> None:
        retirement = asyncio.create_task(self._retire(session))
        self._retiring.add(retirement)
        retirement.add_done_callback(self._retiring.discard)

    async def _retire(self, session: Session) -> None:
        """Let a replaced session serve until a quiet instant, then close it."""
        start = time.monotonic()
        while not session.ended.done():
            age = time.monotonic() - start
            lull = next((lull for until, lull in self._timings.retire_steps if age < until), None)
            if lull is not None and self._is_one_too_many(session):
                lull = None
                self._say(logging.WARNING, "replaced session cut: there are too many", streams=session.streams)
            elif lull is None:
                self._say(logging.WARNING, "replaced session cut at its deadline", streams=session.streams)
            if lull is not None and session.turned_away:
                lull = 0.0
            quiet = lull is not None and not session.streams and session.quiet_for() >= lull
            if lull is None or (quiet and await nobody_comes(session)):
                await session.close()
                self._say(logging.INFO, "replaced session closed", age_seconds=round(age, 1), **_lost(session))
                return
            await asyncio.sleep(self._timings.retire_poll)

    def _is_one_too_many(self, session: Session) -> bool:
        """Say whether more sessions are being replaced than may be, and this one has the fewest streams of them."""
        if len(self._running) <= MOST_REPLACED:
            return False
        replaced = [each for each in self._running if each.only is not None and not each.ended.done()]
        return len(replaced) > MOST_REPLACED and min(replaced, key=lambda each: each.streams) is session

    def _over(self, ending: Ending, uptime: float) -> float:
        """Tell of an end. Return the delay (seconds) before the next attempt."""
        delay = self._backoff.next(ending.kind, uptime)
        if self._backoff.believes_refusal:
            ending = replace(ending, message=ending.message + LIKELY_REMEDY)
        if ending.kind in (EndKind.REFUSED, EndKind.LIKELY_REFUSED):
            ending = replace(ending, message=ending.message + expiry_note(self._host.config))
        what = "session down" if uptime else "session not up"
        self._lost |= bool(uptime)
        self._host.session_book.failed(ending.kind.value)
        self._problem = ending.message
        self._failed(ending.kind, delay, counts=not uptime)
        self._say(
            logging.WARNING, f"{what}: {ending.message}", reason=ending.kind.value, retry_in_seconds=round(delay, 1)
        )
        self._tell_down(bool(uptime), ending.message, delay)
        return delay

    def _failed(self, kind: EndKind, delay: float, *, counts: bool = True) -> None:
        self._refused = kind in (EndKind.REFUSED, EndKind.WRONG_DIALECT)
        self._attempts += counts
        self._next_try = self._now() + delay

    def _settled(self) -> None:
        """What is configured is up."""
        self._problem, self._refused, self._attempts, self._next_try = "", False, 0, None

    def _tell_down(self, was_up: bool, problem: str, retry_in: float | None) -> None:
        if self._host.shared.emit is not None:
            backend = self._host.config
            self._host.shared.emit(
                SessionDown(backend.name, backend.tenant, self.node.address, was_up, problem, retry_in)
            )

    def _say(self, level: int, event: str, **fields: object) -> None:
        self._log.log(level, event, **self._fields(), **fields)

    def _fields(self) -> dict[str, str]:
        backend = self._host.config
        return {"backend": backend.name} | ({"tenant": backend.tenant} if backend.tenant else {})


def last_look(timings: Timings, drain: float) -> float:
    """Return how long before its deadline (seconds) a drain looks for an instant with none but old streams."""
    return min(timings.drain_last_look, drain / 10)


async def nobody_comes(session: Session) -> bool:
    """Say whether no user is in what the socket of a session holds already: a busy loop reads it late."""
    before = session.core.counters.streams_opened
    for _ in range(2):  # asyncio runs what it has read behind a task that slept for one turn
        await asyncio.sleep(0)
    return session.core.counters.streams_opened == before


def _lost(session: Session) -> dict[str, int]:
    """Return what a log line says of users whom the node had sent when our Close left."""
    return {"users_lost": session.totals.too_late} if session.totals.too_late else {}
