"""Claims: what a session says that it serves (docs/protocol.md, "Claims")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.config.claim_rules import STRICT, ClaimError, ClaimRules, listed


class Transport(StrEnum):
    """What carries a stream between the user and the node (docs/protocol.md, "Binary frames")."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class UdpRoute:
    """A public UDP port that a backend claims (docs/protocol.md, "Claims")."""

    port: int
    flow_idle_timeout: int | None = None

    def to_json(self) -> dict[str, int]:
        """Return the JSON object of the ``udp_routes`` claim."""
        return {"port": self.port} | (
            {"flow_idle_timeout_seconds": self.flow_idle_timeout} if self.flow_idle_timeout else {}
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], rules: ClaimRules = STRICT) -> UdpRoute:
        """Read the JSON object of the ``udp_routes`` claim.

        Raises:
            ClaimError: a member is not of its type.
        """
        port: Any = fields.get("port")
        idle = fields.get("flow_idle_timeout_seconds")
        if port is None and rules.lenient:
            port = 0
        if not rules.port(port) or not (idle is None or rules.seconds(idle)):
            raise ClaimError("udp_routes", "a list of objects with a port and whole seconds")
        return cls(port, idle or None)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a session says that it serves; frozen by the node when the session authenticates.

    Two equal `Claims` can share a session, two different ones need a new session
    (docs/protocol.md, "Several sessions for one hostname, and replacing one").
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

    def to_json(self) -> dict[str, Any]:
        """Return the claims as tokens have them: JSON values by the name of the claim; what is empty is left out."""
        found: dict[str, Any] = {"hostnames": list(self.hostnames), "weight": self.weight}
        if self.tcp_ports:
            found["tcp_ports"] = list(self.tcp_ports)
        if self.udp_routes:
            found["udp_routes"] = [route.to_json() for route in self.udp_routes]
        if self.outbound_allowed:
            found["outbound_allowed"] = True
        if self.allowed_outbound_ports:
            found["allowed_outbound_ports"] = list(self.allowed_outbound_ports)
        return found

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], rules: ClaimRules = STRICT) -> Claims:
        """Read the claims of a token; what else it holds is passed over.

        Raises:
            ClaimError: a claim is not of its type.
        """
        names = listed(fields, "hostnames", rules.hostname, "hostnames")
        single = fields.get("hostname")
        if single is not None and not (rules.lenient and names):
            if not rules.hostname(single):
                raise ClaimError("hostname", "a hostname")
            names = [*names, single]
        weight = fields.get("weight", 1)
        if not rules.weight(weight):
            raise ClaimError("weight", "a whole number of 1 or more")
        outbound = fields.get("outbound_allowed", False)
        if not (rules.lenient or isinstance(outbound, bool)):
            raise ClaimError("outbound_allowed", "true or false")
        routes = listed(fields, "udp_routes", lambda value: isinstance(value, dict), "objects")
        return cls(
            hostnames=tuple(names),
            weight=weight or 1,
            tcp_ports=tuple(listed(fields, "tcp_ports", rules.port, "ports")),
            udp_routes=tuple(UdpRoute.from_json(route, rules) for route in routes),
            outbound_allowed=outbound is True,
            allowed_outbound_ports=tuple(listed(fields, "allowed_outbound_ports", rules.port, "ports")),
        )
