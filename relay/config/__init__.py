"""Frozen values that a relay is told: all of them are made before a relay sees them."""

from relay.config.backend import BackendConfig, BackendSettings, NodeConfig, RelayConfig
from relay.config.backend_options import (
    AttestationOptions,
    FlowControlOptions,
    HealthCheckOptions,
    Limits,
    Removal,
    RemovalMode,
)
from relay.config.claims import Claims, Transport, UdpRoute
from relay.config.credentials import (
    Credential,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
    TokenProvider,
    TokenRequest,
)

__all__ = [
    "AttestationOptions",
    "BackendConfig",
    "BackendSettings",
    "Claims",
    "Credential",
    "FlowControlOptions",
    "HealthCheckOptions",
    "HmacSecret",
    "HmacSecretFile",
    "Limits",
    "NodeConfig",
    "PresignedToken",
    "RelayConfig",
    "Removal",
    "RemovalMode",
    "TokenCommand",
    "TokenProvider",
    "TokenRequest",
    "Transport",
    "UdpRoute",
]
