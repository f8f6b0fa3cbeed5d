"""Which target a stream goes to: an immutable table, looked up on the connect path of every stream.

Source: docs/protocol.md, "Hostnames and routing".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from relay.config.hostnames import normalise_pattern, requested_name
from relay.config.port_options import PortOptions
from relay.errors import InvalidValue

TransportName = Literal["tcp", "udp"]

SHARD: Final = 256
"""Host routes that are copied to change one of many."""

FEW: Final = 64
"""Changes of a port's host routes up to which a table is changed rather than built again."""


@dataclass(frozen=True, slots=True)
class PortRoutes:
    """What happens to the streams of one public port.

    Attributes:
        transport: what carries them.
        port: the public port.
        default: the targets where no host route matches; None (or empty) for no route.
        hosts: targets by host name or single-label wildcard.
        options: how the port's streams are carried.

    Several targets of one route are one text, as `relay.config.targets.parse_targets` reads it.
    """

    transport: TransportName
    port: int
    default: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    options: PortOptions = PortOptions()


class Route(NamedTuple):
    """What a stream was matched to.

    Attributes:
        targets: one or more targets, as `relay.config.targets.parse_targets` reads them.
        options: of the port.
        pattern: the host name or wildcard that matched; empty for the port's default.
    """

    targets: str
    options: PortOptions
    pattern: str = ""


class _Hosts(Mapping[str, str]):
    """Targets by normalised pattern, in shards, so that a changed copy shares all but one of them."""

    __slots__ = ("_mask", "_shards", "_size")

    def __init__(self, shards: list[dict[str, str]], size: int) -> None:
        self._shards, self._mask, self._size = shards, len(shards) - 1, size

    @classmethod
    def of(cls, hosts: dict[str, str]) -> _Hosts:
        if len(hosts) <= SHARD:
            return cls([hosts], len(hosts))
        count = 1 << (len(hosts) // SHARD).bit_length()
        shards: list[dict[str, str]] = [{} for _ in range(count)]
        for name, target in hosts.items():
            shards[hash(name) & count - 1][name] = target
        return cls(shards, len(hosts))

    def __getitem__(self, name: str) -> str:
        return self._shards[hash(name) & self._mask][name]

    def find(self, name: str) -> str | None:
        return self._shards[hash(name) & self._mask].get(name)

    def updated(self, hosts: dict[str, str]) -> _Hosts:
        """Return what holds exactly these, sharing the shards that are the same; itself where all are."""
        found = [name for name, target in hosts.items() if self.find(name) != target]
        gone = [name for name in self if name not in hosts] if len(hosts) - len(found) < self._size else []
        if len(found) + len(gone) > FEW:
            return _Hosts.of(hosts)
        updated = self
        for name in (*gone, *found):
            updated = updated.changed(name, hosts.get(name))
        return updated

    def changed(self, name: str, target: str | None) -> _Hosts:
        """Return a copy in which the pattern has this target, or none."""
        if self._size > 2 * SHARD * len(self._shards):
            return _Hosts.of(dict(self)).changed(
                name, target
            )  # it has grown: once for as many changes as it has routes
        shards, place = list(self._shards), hash(name) & self._mask
        shard = shards[place] = dict(shards[place])
        before = len(shard)
        if target is None:
            shard.pop(name, None)
        else:
            shard[name] = target
        return _Hosts(shards, self._size + len(shard) - before)

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Hosts) or self._mask != other._mask:
            return super().__eq__(other)
        return all(mine is theirs or mine == theirs for mine, theirs in zip(self._shards, other._shards, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(dict(self))


class RouteTable:
    """The routes of one backend. ``RouteTable()`` is the empty table. Equal tables hold the same routes.

    Immutable: `with_route` and `without_route` return another table, which shares what is the same.
    """

    __slots__ = ("_hash", "_ports")

    def __init__(self) -> None:
        self._ports: dict[tuple[str, int], PortRoutes] = {}
        # A sum, to which each route and each port adds its own: one that changes does not need the others.
        self._hash = 0

    @classmethod
    def build(cls, mappings: Iterable[PortRoutes]) -> RouteTable:
        """Return the table of these port mappings. Host patterns are normalised, the order does not matter.

        Raises:
            InvalidValue: a port stands twice for one transport, or two patterns of a port have one normal form and
                different targets.
        """
        return cls().updated(mappings)

    def updated(self, mappings: Iterable[PortRoutes]) -> RouteTable:
        """Return the table of these port mappings, as `build` does, which shares with this one what is the same.

        It is this table itself where nothing differs, so that the two need no comparison.

        Raises:
            InvalidValue: as for `build`.
        """
        table = RouteTable()
        for mapping in mappings:
            hosts: dict[str, str] = {}
            for pattern, target in mapping.hosts.items():
                name = normalise_pattern(pattern)
                if hosts.setdefault(name, target) != target:
                    raise InvalidValue("host route", pattern, "stands twice", "give each pattern one target")
            key = (str(mapping.transport), mapping.port)
            if key in table._ports:
                raise InvalidValue("port mapping", f"{key[0]} {key[1]}", "stands twice", "merge the two")
            known = self._ports.get(key)
            shared = known.hosts.updated(hosts) if known and isinstance(known.hosts, _Hosts) else _Hosts.of(hosts)
            found = replace(mapping, default=mapping.default or None, hosts=shared)
            table._ports[key] = known if known == found else found
            salt = hash(key)
            table._hash += hash((key, found.default, found.options)) + sum(
                hash((salt, *item)) for item in hosts.items()
            )
        same = table._ports.keys() == self._ports.keys() and all(
            found is self._ports[key] for key, found in table._ports.items()
        )
        return self if same else table

    def with_route(self, port: int, pattern: str, targets: str, transport: TransportName = "tcp") -> RouteTable:
        """Return a table in which a host name or wildcard of a port goes to ``targets``, whatever it did before.

        Costs the copy of some hundred routes, however many there are.

        Raises:
            InvalidValue: the port is not mapped.
        """
        return self._changed((transport, port), normalise_pattern(pattern), targets)

    def without_route(self, port: int, pattern: str, transport: TransportName = "tcp") -> RouteTable:
        """Return a table without the host route; see `with_route`."""
        return self._changed((transport, port), normalise_pattern(pattern), None)

    def _changed(self, key: tuple[str, int], name: str, targets: str | None) -> RouteTable:
        mapping = self._ports.get(key)
        if mapping is None:
            raise InvalidValue("public port", f"{key[0]} {key[1]}", "is not mapped", "map it first")
        hosts = mapping.hosts
        assert isinstance(hosts, _Hosts)
        before, salt = hosts.find(name), hash(key)
        if before == targets:
            return self
        table = RouteTable()
        table._ports = self._ports | {key: replace(mapping, hosts=hosts.changed(name, targets))}
        table._hash = self._hash
        if before is not None:
            table._hash -= hash((salt, name, before))
        if targets is not None:
            table._hash += hash((salt, name, targets))
        return table

    def resolve(self, port: int, hostname: str, transport: str = "tcp") -> str | None:
        """Return the targets of a stream as text, None where there is no route. See `match`."""
        route = self.match(port, hostname, transport)
        return None if route is None else route.targets

    def match(self, port: int, hostname: str, transport: str = "tcp") -> Route | None:
        """Return where a stream goes and how, None where there is no route.

        The exact host name wins, then the wildcard whose ``*`` stands for exactly its first label, then the port's
        default. A name that is too long for the DNS has no route. Costs three dictionary look-ups, whatever the number
        of routes.
        """
        routes = self._ports.get((transport, port))
        if routes is None:
            return None
        name = requested_name(hostname)
        if name is None:
            return None
        hosts = routes.hosts
        if hosts:
            assert isinstance(hosts, _Hosts)
            target = hosts.find(name)
            if target is None:
                label, dot, parent = name.partition(".")
                if label and dot:
                    name = "*." + parent
                    target = hosts.find(name)
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
        return hash(self._hash)

    def __repr__(self) -> str:
        return f"RouteTable({list(self)!r})"
