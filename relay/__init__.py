"""The relay: carries connections between Nexus nodes and local services. Usable as a library, without Django."""

from relay.config import (
    AttestationOptions,
    BackendConfig,
    Claims,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    NodeConfig,
    PresignedToken,
    RelayConfig,
    TokenCommand,
    UdpRoute,
)
from relay.errors import InvalidValue
from relay.memory import memory_stream
from relay.relay import Relay
from relay.requests import ConnectHandler, ConnectRequest, NoRoute, Upstream
from relay.routing import PortRoutes, RouteTable
from relay.targets import Target, parse_target

__all__ = [
    "AttestationOptions",
    "BackendConfig",
    "Claims",
    "ConnectHandler",
    "ConnectRequest",
    "FlowControlOptions",
    "HealthCheckOptions",
    "HmacSecret",
    "HmacSecretFile",
    "InvalidValue",
    "NoRoute",
    "NodeConfig",
    "PortRoutes",
    "PresignedToken",
    "Relay",
    "RelayConfig",
    "RouteTable",
    "Target",
    "TokenCommand",
    "UdpRoute",
    "Upstream",
    "memory_stream",
    "parse_target",
]
