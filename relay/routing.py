"""Which target a stream goes to: an immutable table, looked up on the connect path of every stream.

Source: PROTOCOL.md, "Hostnames and routing".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay.errors import InvalidValue
from relay.hostnames import normalise_hostname, normalise_pattern
from relay.port_options import PortOptions

TransportName = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class PortRoutes:
    """What happens to the streams of one public port.

    Attributes:
        transport: what carries them.
        port: the public port.
        default: the targets where no host route matches; None (or empty) for no route.
        hosts: targets by host name or single-label wildcard.
        options: how the port's streams are carried.

    Several targets of one route are one text, as `relay.targets.parse_targets` reads it.
    """

    transport: TransportName
    port: int
    default: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    options: PortOptions = PortOptions()


@dataclass(frozen=True, slots=True)
class Route:
    """What a stream was matched to.

    Attributes:
        targets: one or more targets, as `relay.targets.parse_targets` reads them.
        options: of the port.
        pattern: the host name or wildcard that matched; empty for the port's default.
    """

    targets: str
    options: PortOptions
    pattern: str = ""


class RouteTable:
    """The routes of one backend. ``RouteTable()`` is the empty table. Equal tables hold the same routes."""

    __slots__ = ("_hash", "_ports")

    def __init__(self) -> None:
        self._ports: dict[tuple[str, int], PortRoutes] = {}
        self._hash = hash(frozenset[object]())

    @classmethod
    def build(cls, mappings: Iterable[PortRoutes]) -> RouteTable:
        """Return the table of these port mappings. Host patterns are normalised, the order does not matter.

        Raises:
            InvalidValue: a port stands twice for one transport, or two patterns of a port have one normal form and
                different targets.
        """
        table = cls()
        hashes = []
        for mapping in mappings:
            hosts: dict[str, str] = {}
            for pattern, target in mapping.hosts.items():
                name = normalise_pattern(pattern)
                if hosts.setdefault(name, target) != target:
                    raise InvalidValue("host route", pattern, "stands twice", "give each pattern one target")
            key = (str(mapping.transport), mapping.port)
            if key in table._ports:
                raise InvalidValue("port mapping", f"{key[0]} {key[1]}", "stands twice", "merge the two")
            table._ports[key] = PortRoutes(
                mapping.transport, mapping.port, mapping.default or None, hosts, mapping.options
            )
            hashes.append(hash((key, mapping.default or None, frozenset(hosts.items()), mapping.options)))
        table._hash = hash(frozenset(hashes))
        return table

    def resolve(self, port: int, hostname: str, transport: str = "tcp") -> str | None:
        """Return the targets of a stream as text, None where there is no route. See `match`."""
        route = self.match(port, hostname, transport)
        return None if route is None else route.targets

    def match(self, port: int, hostname: str, transport: str = "tcp") -> Route | None:
        """Return where a stream goes and how, None where there is no route.

        The exact host name wins, then the wildcard whose ``*`` stands for exactly its first label, then the port's
        default. Costs three dictionary look-ups, whatever the number of routes.
        """
        routes = self._ports.get((transport, port))
        if routes is None:
            return None
        hosts = routes.hosts
        if hosts:
            name = normalise_hostname(hostname)
            target = hosts.get(name)
            if target is None:
                label, dot, parent = name.partition(".")
                if label and dot:
                    name = "*." + parent
                    target = hosts.get(name)
            if target is not None:
                return Route(target, routes.options, name)
        return Route(routes.default, routes.options) if routes.default is not None else None

    def options(self, port: int, transport: str = "tcp") -> PortOptions | None:
        """Return how the streams of a public port are carried, None where it is not mapped."""
        routes = self._ports.get((transport, port))
        return None if routes is None else routes.options

    def __iter__(self) -> Iterator[PortRoutes]:
        """Yield the port mappings, tcp before udp, by port."""
        return iter([self._ports[key] for key in sorted(self._ports)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RouteTable):
            return NotImplemented
        # The hash was made once, when the table was built: two tables that differ are told apart without a walk.
        return self is other or (self._hash == other._hash and self._ports == other._ports)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"RouteTable({list(self)!r})"
