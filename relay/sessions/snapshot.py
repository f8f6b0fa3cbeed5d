"""Sessions and uplinks at one moment, for those who report on them."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config import Claims, Credential


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A session that lives. Holding it keeps nothing alive but its claims and its credential.

    Attributes:
        number: which session of this process; never used twice.
        node: its address.
        state: ``opening``, ``up``, ``replaced`` (serves what it has) or ``draining``.
        dialect: ``token`` or ``attested``.
        age: seconds since it was begun.
        streams: live ones.
        claims: what it serves.
        credential: what its newest token was made with; the same object for as long as it is the same.
        authenticated_at: when that token was sent, by the loop's clock; None before the first.
    """

    number: int
    node: str
    state: str
    dialect: str
    age: float
    streams: int
    claims: Claims
    credential: Credential | None
    authenticated_at: float | None


@dataclass(frozen=True, slots=True)
class UplinkSnapshot:
    """What is being done to keep a session of one backend up at one node. Instants are by the loop's clock.

    Attributes:
        node: its address.
        state: ``connecting``, ``up``, ``waiting``, ``refused`` (waits, since the node refused the credentials) or
            ``draining``; see `relay.sessions.phases.UplinkState`.
        problem: why the last attempt or session ended, with the remedy, in the words of the log. Empty where what is
            configured is up; while ``up``, why the node does not take the newest configuration.
        since: when a session came up, or was lost; of one that never was up, when the first attempt began.
        attempts: how many have failed since the last success.
        next_try: when the next begins; None while one is under way, and where only an edit helps.
        streams: live streams, those of sessions that are being replaced included.
        sessions: sessions that live, those being opened or replaced included.
    """

    node: str
    state: str
    problem: str
    since: float
    attempts: int
    next_try: float | None
    streams: int
    sessions: int
