"""What `relay` offers to those who embed it: `relay` loads this module when one of the names is first used."""

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
    TokenProvider,
    TokenRequest,
    UdpRoute,
)
from relay.config.port_options import PortOptions, TargetHealth, TargetOrder
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target, parse_target, parse_targets
from relay.connect_handler import ConnectHandler, ConnectRequest, Dial, NoRoute, Refused, Upstream
from relay.errors import InvalidValue
from relay.events import (
    Direction,
    ReauthCompleted,
    ReauthStarted,
    RelayEvent,
    SessionDown,
    SessionUp,
    StreamClosed,
    StreamConnected,
    StreamInfo,
    StreamPaused,
    StreamRefused,
    StreamResumed,
)
from relay.memory_transport import memory_stream
from relay.relay import Relay
from relay.routing import PortRoutes, RouteTable
from relay.sessions.snapshot import SessionSnapshot, UplinkSnapshot
from relay.sessions.usage import SessionTotals
from relay.supervision.stats import BackendStats, RelayStats, SessionStats, StreamStats
from relay.targets.health import TargetStatus
from relay.timings import Timings

__all__ = [
    "AttestationOptions",
    "BackendConfig",
    "BackendStats",
    "Claims",
    "ConnectHandler",
    "ConnectRequest",
    "Dial",
    "Direction",
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
    "ReauthCompleted",
    "ReauthStarted",
    "Refused",
    "Relay",
    "RelayConfig",
    "RelayEvent",
    "RelayStats",
    "Removal",
    "RemovalMode",
    "RouteTable",
    "SessionDown",
    "SessionSnapshot",
    "SessionStats",
    "SessionTotals",
    "SessionUp",
    "StreamClosed",
    "StreamConnected",
    "StreamInfo",
    "StreamPaused",
    "StreamRefused",
    "StreamResumed",
    "StreamStats",
    "Target",
    "TargetHealth",
    "TargetOrder",
    "TargetPolicy",
    "TargetStatus",
    "Timings",
    "TokenCommand",
    "TokenProvider",
    "TokenRequest",
    "UdpRoute",
    "UplinkSnapshot",
    "Upstream",
    "memory_stream",
    "parse_target",
    "parse_targets",
]
