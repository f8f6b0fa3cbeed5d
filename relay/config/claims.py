"""Claims: what a session says that it serves (docs/protocol.md, "Claims")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """What carries a stream between the user and the node (PROTOCOL.md, "Binary frames")."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class UdpRoute:
    """A public UDP port that a backend claims (PROTOCOL.md, "Claims")."""

    port: int
    flow_idle_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a session says that it serves; frozen by the node when the session authenticates.

    Two equal `Claims` can share a session, two different ones need a new session
    (PROTOCOL.md, "Several sessions for one hostname, and replacing one").
    """

    hostnames: tuple[str, ...] = ()
    weight: int = 1
    tcp_ports: tuple[int, ...] = ()
    udp_routes: tuple[UdpRoute, ...] = ()
    outbound_allowed: bool = False
    allowed_outbound_ports: tuple[int, ...] = ()

    def normalised(self) -> Claims:
        """Return the same claims with every set sorted, so that order never replaces a session."""
        return Claims(
            hostnames=tuple(sorted(set(self.hostnames))),
            weight=self.weight,
            tcp_ports=tuple(sorted(set(self.tcp_ports))),
            udp_routes=tuple(sorted(set(self.udp_routes), key=lambda r: (r.port, r.flow_idle_timeout or 0))),
            outbound_allowed=self.outbound_allowed,
            allowed_outbound_ports=tuple(sorted(set(self.allowed_outbound_ports))),
        )
