"""What a backend may claim in a token, as the registry has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS

from relay.config import Claims, UdpRoute
from relay.errors import shorten
from tenants.models.backend import Backend
from tenants.models.below_backend import BelowBackends
from tenants.models.port_claim import Transport

MOST_WEIGHT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One backend's hostnames, ports and rights.

    Attributes:
        enabled: the backend's own switch; its tenant's is another.
        hostnames: in their normal form; a wildcard may be claimed as it stands, not what it covers.
        outbound_ports: none for any, where outbound is allowed.
    """

    backend_id: int
    tenant_id: int
    name: str
    enabled: bool
    weight: int
    hostnames: tuple[str, ...]
    hostname_set: frozenset[str]
    tcp_ports: frozenset[int]
    udp_routes: tuple[UdpRoute, ...]
    udp_ports: frozenset[int]
    outbound_allowed: bool
    outbound_ports: frozenset[int]

    def claims(self) -> Claims:
        """Return everything that it may claim."""
        return Claims(
            hostnames=self.hostnames,
            weight=self.weight,
            tcp_ports=tuple(self.tcp_ports),
            udp_routes=self.udp_routes,
            outbound_allowed=self.outbound_allowed,
            allowed_outbound_ports=tuple(self.outbound_ports),
        ).normalised()

    def problems(self, claims: Claims) -> list[str]:
        """Return what of the claims is beyond this backend, each in words; nothing where all of it is allowed.

        The weight may be any: it shares the load among the tenant's own sessions, and a session that connected with
        an older one must be able to go on.
        """
        return list(self._problems(claims))

    def allows(self, claims: Claims) -> bool:
        """Tell whether there are no `problems`, without naming them all: the asker chooses how many there are."""
        return next(self._problems(claims), None) is None

    def _problems(self, claims: Claims) -> Iterator[str]:
        if not self.hostname_set.issuperset(claims.hostnames):
            for name in claims.hostnames:
                if name not in self.hostname_set:
                    yield f"hostname {shown(name)} is not one of the backend's"
        for port in claims.tcp_ports:
            if port not in self.tcp_ports:
                yield f"TCP port {port} is not claimed"
        for route in claims.udp_routes:
            if route.port not in self.udp_ports:
                yield f"UDP port {route.port} is not claimed"
        if not 1 <= claims.weight <= MOST_WEIGHT:
            yield f"weight {claims.weight} is not from 1 to {MOST_WEIGHT}"
        if claims.outbound_allowed and not self.outbound_allowed:
            yield "outbound is not allowed"
        elif claims.outbound_allowed and self.outbound_ports:
            if not claims.allowed_outbound_ports:
                yield "outbound to every port is not allowed"
            for port in claims.allowed_outbound_ports:
                if port not in self.outbound_ports:
                    yield f"outbound port {port} is not allowed"
        elif claims.allowed_outbound_ports and not claims.outbound_allowed:
            yield "outbound ports are claimed without outbound"
        if not (claims.hostnames or claims.tcp_ports or claims.udp_routes):
            yield "neither hostnames nor ports are claimed"


def shown(name: str) -> str:
    """Return a name from anybody, short and in ASCII."""
    return shorten(name, 100).encode("ascii", "backslashreplace").decode()


def entitlements_of(backends: Collection[int], using: str = DEFAULT_DB_ALIAS) -> dict[int, Entitlement]:
    """Read what these backends may claim, by primary key, in three queries; those that are gone are left out."""
    hostnames: dict[int, list[str]] = defaultdict(list)
    below = BelowBackends(backends, using)
    for backend, name in below.hostname_links.values_list("backend_id", "hostname__name"):
        hostnames[backend].append(name)
    ports: dict[int, list[tuple[str, int, int | None]]] = defaultdict(list)
    for backend, *claim in below.port_claims.values_list("backend_id", "transport", "public_port", "flow_idle_timeout"):
        ports[backend].append((claim[0], claim[1], claim[2]))
    found = {}
    rows: Any = Backend.objects.using(using).filter(pk__in=backends).order_by()
    for row in rows.values(
        "pk", "tenant_id", "name", "enabled", "weight", "outbound_allowed", "allowed_outbound_ports"
    ):
        key = row["pk"]
        tcp = [port for transport, port, _ in ports[key] if transport == Transport.TCP]
        udp = [UdpRoute(port, idle) for transport, port, idle in ports[key] if transport == Transport.UDP]
        found[key] = Entitlement(
            backend_id=key,
            tenant_id=row["tenant_id"],
            name=row["name"],
            enabled=row["enabled"],
            weight=row["weight"],
            hostnames=tuple(hostnames[key]),
            hostname_set=frozenset(hostnames[key]),
            tcp_ports=frozenset(tcp),
            udp_routes=tuple(udp),
            udp_ports=frozenset(route.port for route in udp),
            outbound_allowed=row["outbound_allowed"],
            outbound_ports=frozenset(row["allowed_outbound_ports"]),
        )
    return found
