"""Port options of a file, which the Go reference client does not know; without them a file says what it always said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relay.config.access import normal_network
from relay.config.port_options import (
    AccessList,
    AccessMode,
    PortOptions,
    ProxyProtocol,
    TargetHealth,
    TargetOrder,
)
from relay.configfile.nodes import Node, Scalar
from relay.configfile.problems import child
from relay.configfile.values import Values

PORT_KEYS = frozenset({"proxyProtocol", "targetOrder", "dialTimeoutSeconds", "targetHealth", "access"})

_HEALTH = {
    "intervalSeconds": ("interval", 0),
    "timeoutSeconds": ("timeout", 1),
    "upAfter": ("up_after", 1),
    "downAfter": ("down_after", 1),
}
_ORDERS = {"ordered": TargetOrder.ORDERED, "roundRobin": TargetOrder.ROUND_ROBIN}
_VERSIONS = {"v1": ProxyProtocol.V1, "v2": ProxyProtocol.V2}
_LONGEST_DIAL = 60

Members = Mapping[str, tuple[Scalar, Node]]


def read_port_options(values: Values, members: Members, path: str, *, udp: bool) -> PortOptions:
    """Read the options of a port mapping; what is wrong is noted.

    Args:
        udp: the backend claims the port for UDP too.
    """
    found: dict[str, Any] = {}

    def take(key: str, name: str, read: Callable[[Node, str], Any]) -> None:
        if key in members:
            value = read(members[key][1], child(path, key))
            if value is not None:
                found[name] = value

    take("proxyProtocol", "proxy_protocol", lambda node, place: values.choice(node, place, _VERSIONS))
    take("targetOrder", "target_order", lambda node, place: values.choice(node, place, _ORDERS))
    take("dialTimeoutSeconds", "dial_timeout", lambda node, place: _dial_timeout(values, node, place))
    take("targetHealth", "target_health", lambda node, place: _health(values, node, place))
    take("access", "access", lambda node, place: _access(values, node, place))
    if udp and found.get("proxy_protocol") is ProxyProtocol.V1:
        node = members["proxyProtocol"][1]
        values.note(
            node, child(path, "proxyProtocol"), "v1 has no form for UDP, which the port is claimed for: write v2"
        )
    return PortOptions(**found)


def write_port_options(options: PortOptions) -> dict[str, Any]:
    """Return the members of a port mapping that say what `read_port_options` would read; none for the defaults."""
    written: dict[str, Any] = {}
    default = PortOptions()
    if options.proxy_protocol:
        written["proxyProtocol"] = str(options.proxy_protocol)
    if options.target_order is not default.target_order:
        written["targetOrder"] = next(key for key, order in _ORDERS.items() if order is options.target_order)
    if options.dial_timeout != default.dial_timeout:
        written["dialTimeoutSeconds"] = int(options.dial_timeout)
    if options.target_health != default.target_health:
        written["targetHealth"] = {key: int(getattr(options.target_health, name)) for key, (name, _) in _HEALTH.items()}
    if options.access != default.access:
        written["access"] = {"allow": list(options.access.allow), "deny": list(options.access.deny)}
        written["access"]["mode"] = str(options.access.mode)
    return written


def _dial_timeout(values: Values, node: Node, path: str) -> float | None:
    seconds = values.whole(node, path, 1, " of seconds")
    if seconds is not None and seconds > _LONGEST_DIAL:
        values.note(node, path, f"is {seconds}: write 1 to {_LONGEST_DIAL} seconds, users do not wait longer")
        return None
    return None if seconds is None else float(seconds)


def _health(values: Values, node: Node, path: str) -> TargetHealth:
    members = values.mapping(node, path, _HEALTH.keys(), "write a mapping, as in {intervalSeconds: 5}") or {}
    read: dict[str, Any] = {}
    for key, (_, value) in members.items():
        name, minimum = _HEALTH[key]
        number = values.whole(value, child(path, key), minimum)
        if number is not None:
            read[name] = float(number) if name in ("interval", "timeout") else number
    return TargetHealth(**read)


def _access(values: Values, node: Node, path: str) -> AccessList:
    what = "write a mapping, as in {allow: [192.0.2.0/24]}"
    members = values.mapping(node, path, {"allow", "deny", "mode"}, what) or {}
    networks: dict[str, tuple[str, ...]] = {}
    for key in ("allow", "deny"):
        if key in members:
            place = child(path, key)
            items = values.items(members[key][1], place, "write a list of networks, as in [192.0.2.0/24]")
            read = [
                values.checked(item, f"{place}[{index}]", "write a network", normal_network) for index, item in items
            ]
            networks[key] = tuple(dict.fromkeys(network for network in read if network is not None))
    mode = AccessMode.ENFORCE
    if "mode" in members:
        modes = {str(mode): mode for mode in AccessMode}
        mode = values.choice(members["mode"][1], child(path, "mode"), modes) or mode
    return AccessList(mode=mode, **networks)
