"""What a backend claimed until an edit: sessions that claim it still serve it until the edit's deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.config import Claims
from relay.routing import RouteTable
from relay.sessions.opener import covers

MOST_FORMER: Final = 16
"""Edits that are remembered; of a backend that is edited all the time, the newest."""


@dataclass(frozen=True, slots=True)
class _Former:
    claims: Claims
    routes: RouteTable
    until: float


class FormerRoutes:
    """The routes of what was removed from one backend that stays.

    A node sends users to a session for all that it claimed when it began. Who asks for a name that was removed since is
    served as before, until the deadline, so that another relay or backend with that name takes over without loss.

    Args:
        claims: what the backend claims.
        ended: is called when a deadline has passed.
    """

    def __init__(self, claims: Claims, ended: Callable[[], None]) -> None:
        self.claims = claims
        self._ended = ended
        self._before: list[_Former] = []
        self._timer: asyncio.TimerHandle | None = None

    def edited(self, claims: Claims | None, routes: RouteTable, seconds: float) -> None:
        """Follow an edit.

        Args:
            claims: the newest; None where there are none that a session could begin with.
            routes: those before the edit.
            seconds: for how long what the edit removed, or an earlier one, is served; with 0, no more.
        """
        before, self.claims = self.claims, self.claims if claims is None else claims
        if seconds <= 0:
            self._before = []
            self._set_timer()
        elif before != self.claims:
            former = _Former(before, routes, asyncio.get_running_loop().time() + seconds)
            self._before = [*self._before, former][-MOST_FORMER:]
            self._set_timer()

    def stop(self) -> None:
        """Forget all."""
        self._before = []
        self._set_timer()

    def find(self, port: int, hostname: str, transport: str) -> RouteTable | None:
        """Return the last routes of what a user asks for; None where it is claimed, or served no more.

        Args:
            hostname: in normal form.
        """
        if not self._before or covers(self.claims, port, hostname, transport):
            return None
        now = asyncio.get_running_loop().time()
        for former in reversed(self._before):
            if covers(former.claims, port, hostname, transport):
                return former.routes if now < former.until else None
        return None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._before:
            due = min(former.until for former in self._before)
            self._timer = asyncio.get_running_loop().call_at(due, self._due)

    def _due(self) -> None:
        now = asyncio.get_running_loop().time()
        self._before = [former for former in self._before if former.until > now]
        self._set_timer()
        self._ended()
