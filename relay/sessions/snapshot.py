"""A session at one moment, for those who report on it."""

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
