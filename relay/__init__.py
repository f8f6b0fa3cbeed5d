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
    Removal,
    RemovalMode,
    TokenCommand,
    UdpRoute,
)
from relay.errors import InvalidValue
from relay.memory import memory_stream
from relay.port_options import PortOptions, TargetHealth, TargetOrder
from relay.relay import Relay
from relay.requests import ConnectHandler, ConnectRequest, Dial, NoRoute, Refused, Upstream
from relay.routing import PortRoutes, RouteTable
from relay.target_health import TargetStatus
from relay.targets import Target, parse_target, parse_targets

__all__ = [
    "AttestationOptions",
    "BackendConfig",
    "Claims",
    "ConnectHandler",
    "ConnectRequest",
    "Dial",
    "FlowControlOptions",
    "HealthCheckOptions",
    "HmacSecret",
    "HmacSecretFile",
    "InvalidValue",
    "NoRoute",
    "NodeConfig",
    "PortOptions",
    "PortRoutes",
    "PresignedToken",
    "Refused",
    "Relay",
    "RelayConfig",
    "Removal",
    "RemovalMode",
    "RouteTable",
    "Target",
    "TargetHealth",
    "TargetOrder",
    "TargetStatus",
    "TokenCommand",
    "UdpRoute",
    "Upstream",
    "memory_stream",
    "parse_target",
    "parse_targets",
]
