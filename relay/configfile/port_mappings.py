"""Reading of ``portMappings``: where the streams of each public port go."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final, NamedTuple

from relay.config.hostnames import normalise_pattern
from relay.config.served_names import check_route_pattern
from relay.config.targets import parse_targets
from relay.configfile import nodes
from relay.configfile.document import PortMappingDocument
from relay.configfile.lenient import read_targets
from relay.configfile.nodes import Node, Scalar
from relay.configfile.port_options import PORT_KEYS, read_port_options
from relay.configfile.problems import child
from relay.configfile.values import Values, is_blank, is_empty
from relay.errors import InvalidValue

MAPPING_KEYS: Final = frozenset({"default", "hosts"} | PORT_KEYS)
_MOST_PORT: Final = 65_535


class _Port(NamedTuple):
    """A port that is mapped, and which transports the backend claims it for whole."""

    number: int
    tcp: bool
    udp: bool


def read_port_mappings(
    values: Values, node: Node, members: Mapping[str, Node], path: str, tcp_ports: Set[int], udp_ports: Set[int]
) -> tuple[PortMappingDocument, ...]:
    """Read a backend's port mappings, by port; what is wrong is noted.

    Args:
        node: the backend.
        members: its members.
        tcp_ports, udp_ports: which the backend claims.
    """
    where, what = child(path, "portMappings"), 'write public ports and targets, as in 443: "localhost:8443"'
    found = members.get("portMappings")
    if found is None or (isinstance(found, nodes.Mapping) and not found.members):
        values.note(found or node, where, f"is missing: {what}")
        return ()
    known = len(values.problems)
    mappings: dict[int, PortMappingDocument] = {}
    useless: list[tuple[Scalar, str]] = []
    for key, value in (values.mapping(found, where, None, what) or {}).values():
        place = child(where, key.text)
        number = _public_port(values, key, place)
        port = _Port(number or 0, number in tcp_ports, number in udp_ports)
        mapping = _port_mapping(values, value, place, port)
        if number is None or mapping is None:
            continue
        if not 1 <= number <= _MOST_PORT:
            useless.append((key, f"public port {number} is out of range: write 1 to {_MOST_PORT}"))
            continue
        if mapping.default is None and not mapping.hosts:
            useless.append((key, "has no default, and no host route that a user can come to: give one of them"))
            continue
        if number in mappings:
            values.warn(key, place, f"the port {number} is here again: the last of its mappings is taken")
        mappings[number] = mapping
    sound = len(values.problems) == known
    for key, message in useless:
        if mappings:
            values.warn(key, child(where, key.text), f"{message}. Nothing comes of this mapping, and it is left out")
        elif sound:
            values.note(key, child(where, key.text), message)
    if not mappings and len(values.problems) == known:
        values.note(found, where, f"is missing: {what}")
    return tuple(mappings[port] for port in sorted(mappings))


def _public_port(values: Values, key: Scalar, path: str) -> int | None:
    """Return the number of a public port. In quotes it is a number too: JSON has no other form of it."""
    if not key.plain and key.text.isascii() and key.text.isdigit() and not key.text.startswith("0"):
        return int(key.text[:10])
    return values.number(key, path, f"write the public port, 1 to {_MOST_PORT}")


def _port_mapping(values: Values, node: Node, path: str, port: _Port) -> PortMappingDocument | None:
    what = 'write "host:port", or a mapping with default: and hosts:'
    if isinstance(node, nodes.Sequence):
        target = _targets(values, node, path)
        return None if target is None else PortMappingDocument(port.number, target)
    values.keep(path, node)
    if isinstance(node, Scalar) and not node.is_null:
        target = values.understood(node, path, what, read_targets)
        return None if target is None else PortMappingDocument(port.number, target)
    known = len(values.problems)
    members = values.mapping(node, path, MAPPING_KEYS, what)
    if members is None:
        return None
    options = read_port_options(values, members, path, udp=port.udp)
    default = None
    if "default" in members:
        found = members["default"][1]
        if not is_blank(found):
            default = _targets(values, found, child(path, "default"))
    hosts: dict[str, tuple[str, Scalar]] = {}
    if "hosts" in members:
        hosts, whole = _host_routes(values, members["hosts"][1], child(path, "hosts"), port, default)
        default = whole or default
    if default is None and ("hosts" not in members or is_empty(members["hosts"][1])) and len(values.problems) == known:
        values.note(node, path, "has neither default nor hosts: give a default target or host routes")
    routes = tuple((pattern, hosts[pattern][0]) for pattern in sorted(hosts))
    return PortMappingDocument(port.number, default, routes, options)


def _host_routes(
    values: Values, node: Node, where: str, port: _Port, default: str | None
) -> tuple[dict[str, tuple[str, Scalar]], str | None]:
    """Read the host routes of a port.

    Returns:
        Targets and key by pattern; and the targets of all users of the port, where it is claimed whole and a route
        says so (``tcp:53``, which is what the node calls their hostname).
    """
    hosts: dict[str, tuple[str, Scalar]] = {}
    whole: str | None = None
    of_port = (f"tcp:{port.number}", f"udp:{port.number}")
    what = 'write hostnames and targets, as in a.example.com: "localhost:80"'
    for key, value in (values.mapping(node, where, None, what) or {}).values():
        place = child(where, key.text)
        target = _targets(values, value, place)
        if key.text.strip().lower() in of_port:
            whole = _claimed_port(values, key, place, port, target, default) or whole
            continue
        pattern = _pattern(values, key, place)
        if pattern is None or target is None:
            continue
        values.keep(child(where, pattern), value)
        before = hosts.get(pattern)
        if before is not None:
            # The hostname of a user is in normal form, and is looked for as it is.
            kept = key if key.text == pattern else before[1]
            values.warn(
                key, place, f"is {pattern} again (first in line {before[1].line}): the route of {kept.text} is taken"
            )
        if before is None or key.text == pattern:
            hosts[pattern] = (target, key)
    return hosts, whole


def _pattern(values: Values, key: Scalar, path: str) -> str | None:
    """Return a host route's pattern in normal form; None for one that no hostname can be, which is warned of."""
    if not key.text.strip():
        values.note(key, path, "is empty: write a hostname")
        return None
    try:
        return check_route_pattern(key.text)
    except InvalidValue as error:
        values.warn(key, path, f"{error}. No user comes by such a name: the route is left out")
        return None


def _claimed_port(
    values: Values, key: Scalar, path: str, port: _Port, target: str | None, default: str | None
) -> str | None:
    """Return the targets of a port that is claimed whole; None where the route is of no use, which is warned of."""
    transport = normalise_pattern(key.text)[:3]
    if not getattr(port, transport):
        values.warn(key, path, f"port {port.number} is not claimed for {transport.upper()}: the route is left out")
        return None
    if target != default and ((port.tcp and port.udp) or (port.udp and default is not None)):
        values.note(key, path, "TCP and UDP of a port go to the same targets here: give one default instead")
        return None
    if target is not None:
        values.warn(key, path, f"is how the node names port {port.number}: taken as its default, {target}")
    return target


def _targets(values: Values, node: Node, path: str) -> str | None:
    """Return a route's targets: a text, with commas between several, or a list."""
    what = 'write a target, as in "localhost:8443", or a list of targets'
    values.keep(path, node)
    if not isinstance(node, nodes.Sequence):
        return values.understood(node, path, what, read_targets)
    read = [
        values.understood(item, child(path, index), what, read_targets)
        for index, item in values.items(node, path, what)
    ]
    if not read:
        values.note(node, path, f"is empty: {what}")
    if not read or None in read:
        return None
    try:
        return ",".join(str(target) for target in parse_targets(",".join(filter(None, read))))
    except InvalidValue as error:
        values.note(node, path, str(error))
        return None
