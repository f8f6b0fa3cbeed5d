"""Which session gets a new stream: exact hostname, then wildcard, then claimed port; by weight among equals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.devnode.session import NodeSession


class RoundRobin:
    """Smooth weighted round robin: each pick goes to the session that is furthest behind its share."""

    def __init__(self) -> None:
        self._lag: dict[NodeSession, int] = {}

    def __bool__(self) -> bool:
        return bool(self._lag)

    def add(self, session: NodeSession) -> None:
        """Give ``session`` its share from now on."""
        self._lag[session] = 0

    def remove(self, session: NodeSession) -> None:
        """Give it no more; unknown sessions do not matter."""
        self._lag.pop(session, None)

    def pick(self) -> NodeSession | None:
        """Return the session whose turn it is."""
        total = 0
        best: NodeSession | None = None
        for session in self._lag:
            weight = session.claims.weight
            total += weight
            self._lag[session] += weight
            if best is None or self._lag[session] > self._lag[best]:
                best = session
        if best is not None:
            self._lag[best] -= total
        return best


class Pool:
    """The sessions that streams can go to, dead ones that the node has not noticed among them."""

    def __init__(self) -> None:
        self._members: dict[str, RoundRobin] = {}

    def add(self, session: NodeSession) -> None:
        """Route to ``session`` what its claims say."""
        for key in _keys(session):
            self._members.setdefault(key, RoundRobin()).add(session)

    def remove(self, session: NodeSession) -> None:
        """Route nothing more to it."""
        for key in _keys(session):
            members = self._members.get(key)
            if members is not None:
                members.remove(session)
                if not members:
                    del self._members[key]

    def by_hostname(self, hostname: str) -> NodeSession | None:
        """Pick for a hostname: exact before a wildcard whose ``*`` stands for its first label."""
        members = self._members.get(hostname)
        if members is None:
            _, dot, suffix = hostname.partition(".")
            members = self._members.get(f"*.{suffix}") if dot else None
        return members.pick() if members is not None else None

    def by_port(self, transport: str, port: int) -> NodeSession | None:
        """Pick for a claimed public port (``"tcp"`` or ``"udp"``)."""
        members = self._members.get(f"{transport}:{port}")
        return members.pick() if members is not None else None


def _keys(session: NodeSession) -> Iterable[str]:
    claims = session.claims
    return {
        *(name.strip().rstrip(".").lower() for name in claims.hostnames),
        *(f"tcp:{port}" for port in claims.tcp_ports),
        *(f"udp:{route.port}" for route in claims.udp_routes),
    }
