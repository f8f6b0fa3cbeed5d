"""A document as the relay's configuration."""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType

from relay.config import BackendConfig, BackendSettings, Claims, NodeConfig, RelayConfig
from relay.configfile.document import BackendDocument, ConfigDocument
from relay.routing import PortRoutes, RouteTable


def to_relay_config(document: ConfigDocument) -> RelayConfig:
    """Return what a relay serves by this document; a backend's key is its name.

    A port mapping routes the TCP streams of its port, and the UDP flows too where ``udpRoutes`` claims the port.
    """
    return RelayConfig(backends=MappingProxyType({backend.name: _backend(backend) for backend in document.backends}))


def _backend(backend: BackendDocument) -> BackendConfig:
    return BackendConfig(
        key=backend.name,
        name=backend.name,
        nodes=tuple(NodeConfig(address) for address in backend.nexus_addresses),
        credential=backend.credential,
        claims=Claims(
            hostnames=backend.hostnames,
            weight=backend.weight,
            tcp_ports=backend.tcp_ports,
            udp_routes=backend.udp_routes,
            outbound_allowed=backend.outbound_allowed,
            allowed_outbound_ports=backend.allowed_outbound_ports,
        ).normalised(),
        routes=RouteTable.build(port_routes(backend)),
        **{each.name: getattr(backend, each.name) for each in fields(BackendSettings)},
    )


def port_routes(backend: BackendDocument) -> list[PortRoutes]:
    """Return the routes of the backend's ports, for each transport."""
    udp_ports = {route.port for route in backend.udp_routes}
    routes = []
    for mapping in backend.port_mappings:
        hosts = dict(mapping.hosts)
        routes.append(PortRoutes("tcp", mapping.port, mapping.default, hosts, mapping.options))
        if mapping.port in udp_ports:
            routes.append(PortRoutes("udp", mapping.port, mapping.default, hosts, mapping.options))
    return routes
