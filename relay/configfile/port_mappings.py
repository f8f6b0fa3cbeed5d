"""Reading of ``portMappings``: where the streams of each public port go."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from relay.config.hostnames import check_hostname
from relay.config.targets import parse_targets
from relay.configfile import nodes
from relay.configfile.document import PortMappingDocument
from relay.configfile.nodes import Node, Scalar
from relay.configfile.port_options import PORT_KEYS, read_port_options
from relay.configfile.problems import child
from relay.configfile.values import Values, is_empty
from relay.errors import InvalidValue

MAPPING_KEYS = frozenset({"default", "hosts"} | PORT_KEYS)


def read_port_mappings(
    values: Values, node: Node, members: Mapping[str, Node], path: str, udp_ports: Collection[int]
) -> tuple[PortMappingDocument, ...]:
    """Read a backend's port mappings, by port; what is wrong is noted.

    Args:
        node: the backend.
        members: its members.
        udp_ports: which the backend claims for UDP.
    """
    where, what = child(path, "portMappings"), 'write public ports and targets, as in 443: "localhost:8443"'
    found = members.get("portMappings")
    if found is None or (isinstance(found, nodes.Mapping) and not found.members):
        values.note(found or node, where, f"is missing: {what}")
        return ()
    mappings: dict[int, PortMappingDocument] = {}
    for key, value in (values.mapping(found, where, None, what) or {}).values():
        place = child(where, key.text)
        port = values.port(key, place, "public port")
        mapping = _port_mapping(values, value, place, port or 0, port in udp_ports)
        if port in mappings:
            values.note(key, place, f"the port {port} stands twice: keep one")
        elif port is not None and mapping is not None:
            mappings[port] = mapping
    return tuple(mappings[port] for port in sorted(mappings))


def _port_mapping(values: Values, node: Node, path: str, port: int, udp: bool) -> PortMappingDocument | None:
    what = 'write "host:port", or a mapping with default: and hosts:'
    if isinstance(node, nodes.Sequence):
        target = _targets(values, node, path)
        return None if target is None else PortMappingDocument(port, target)
    values.keep(path, node)
    if isinstance(node, Scalar) and not node.is_null:
        target = values.same(node, path, what, _normal_targets)
        return None if target is None else PortMappingDocument(port, target)
    known = len(values.problems)
    members = values.mapping(node, path, MAPPING_KEYS, what)
    if members is None:
        return None
    options = read_port_options(values, members, path, udp=udp)
    default = None
    if "default" in members and not is_empty(members["default"][1]):
        default = _targets(values, members["default"][1], child(path, "default"))
    hosts: dict[str, tuple[str, Scalar]] = {}
    if "hosts" in members:
        where = child(path, "hosts")
        for key, value in (
            values.mapping(
                members["hosts"][1], where, None, 'write hostnames and targets, as in a.example.com: "localhost:80"'
            )
            or {}
        ).values():
            place = child(where, key.text)
            pattern = values.same(key, place, "write a hostname", check_hostname)
            target = _targets(values, value, place)
            if pattern is not None:
                values.keep(child(where, pattern), value)
            if pattern in hosts:
                values.note(key, place, f"is {pattern} again (first in line {hosts[pattern][1].line}): keep one")
            elif pattern is not None and target is not None:
                hosts[pattern] = (target, key)
    if default is None and not hosts and len(values.problems) == known:
        values.note(node, path, "has neither default nor hosts: give a default target or host routes")
    routes = tuple((pattern, hosts[pattern][0]) for pattern in sorted(hosts))
    return PortMappingDocument(port, default, routes, options)


def _targets(values: Values, node: Node, path: str) -> str | None:
    """Return a route's targets: a text, with commas between several, or a list."""
    what = 'write a target, as in "localhost:8443", or a list of targets'
    values.keep(path, node)
    if not isinstance(node, nodes.Sequence):
        found: str | None = values.same(node, path, what, _normal_targets)
        return found
    read = [values.same(item, f"{path}[{index}]", what, _normal_targets) for index, item in enumerate(node.items)]
    if not read:
        values.note(node, path, f"is empty: {what}")
    if not read or None in read:
        return None
    try:
        return _normal_targets(",".join(read))
    except InvalidValue as error:
        values.note(node, path, str(error))
        return None


def _normal_targets(text: str) -> str:
    return ",".join(str(target) for target in parse_targets(text))
