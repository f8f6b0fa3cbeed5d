"""The relay's whole configuration, frozen.

Everything that a relay does follows from one `RelayConfig`. The registry's bridge and the configuration-file reader
make them; the supervisor compares the newest with what runs and reconciles (docs/architecture.md). Values are
already normalised and validated by whoever made them: see `relay.hostnames`, `relay.targets`, `relay.addresses`.

Durations are seconds. Secrets never appear in a ``repr``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from relay.routing import RouteTable
from relay.target_policy import TargetPolicy


class Transport(StrEnum):
    """What carries a stream between the user and the node (PROTOCOL.md, "Binary frames")."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class UdpRoute:
    """A public UDP port that a backend claims (PROTOCOL.md, "Claims")."""

    port: int
    flow_idle_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a session says that it serves; frozen by the node when the session authenticates.

    Two equal `Claims` can share a session, two different ones need a new session
    (PROTOCOL.md, "Several sessions for one hostname, and replacing one").
    """

    hostnames: tuple[str, ...] = ()
    weight: int = 1
    tcp_ports: tuple[int, ...] = ()
    udp_routes: tuple[UdpRoute, ...] = ()
    outbound_allowed: bool = False
    allowed_outbound_ports: tuple[int, ...] = ()

    def normalised(self) -> Claims:
        """Return the same claims with every set sorted, so that order never replaces a session."""
        return Claims(
            hostnames=tuple(sorted(set(self.hostnames))),
            weight=self.weight,
            tcp_ports=tuple(sorted(set(self.tcp_ports))),
            udp_routes=tuple(sorted(set(self.udp_routes), key=lambda r: (r.port, r.flow_idle_timeout or 0))),
            outbound_allowed=self.outbound_allowed,
            allowed_outbound_ports=tuple(sorted(set(self.allowed_outbound_ports))),
        )


@dataclass(frozen=True, slots=True)
class PresignedToken:
    """A complete JWT, signed elsewhere: the token dialect."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HmacSecret:
    """The key with which the relay signs its own HS256 tokens: the attested dialect.

    Attributes:
        key_id: goes into the tokens' header (``kid``), for whoever verifies with several keys; empty for none.
    """

    secret: str = field(repr=False)
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class HmacSecretFile:
    """A file that holds the HS256 key; read anew for every token, so that it can be rotated in place."""

    path: str


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A program that prints a token (PROTOCOL.md, "The attestation command")."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a `TokenProvider` is asked for.

    Attributes:
        stage: ``handshake``, ``attest`` or ``reauth`` (PROTOCOL.md, "The attestation command").
        nonce: of the node's challenge, for the claim ``session_nonce``; empty at handshake.
        backend, tenant: their names.
        claims: what the token is to say.
    """

    stage: str
    nonce: str
    backend: str
    tenant: str
    claims: Claims


@dataclass(frozen=True, slots=True)
class TokenProvider:
    """A program's own way to get tokens: called on the event loop for each token that a session needs.

    Two are the same credential where their functions are equal, so give the same function each time.

    Attributes:
        provide: returns the token; what it raises is logged by its type, and the session is tried again.
        attested: the attested dialect; False for a token that is complete and the same at every stage.
        timeout: seconds that it may take.
    """

    provide: Callable[[TokenRequest], Awaitable[str]] = field(repr=False)
    attested: bool = True
    timeout: float = 15.0


Credential = PresignedToken | HmacSecret | HmacSecretFile | TokenCommand | TokenProvider


@dataclass(frozen=True, slots=True)
class AttestationOptions:
    """What goes into the relay's own tokens beside the claims (PROTOCOL.md, "Configuration file")."""

    token_ttl: int = 30
    cache_handshake: int = 0
    handshake_max_age: int = 0
    reauth_interval: int = 0
    reauth_grace: int = 0
    maintenance_grace_cap: int = 0
    authorizer_status_uri: str = ""
    policy_version: str = ""


@dataclass(frozen=True, slots=True)
class HealthCheckOptions:
    """Whether and when an idle stream is probed with ``ping_client`` (PROTOCOL.md, "Binary frames")."""

    enabled: bool = True
    inactivity_timeout: float = 60.0
    pong_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class FlowControlOptions:
    """Per-stream marks in messages of at most 32 KiB; ``low_water < high_water < max_buffer``.

    ``max_buffer`` sets how much may wait for one target (`relay.session.BOUND_FACTOR`). The two marks are kept for the
    files that have them: users are slowed down by credits, not by pausing them at a mark.
    """

    high_water: int = 48
    low_water: int = 16
    max_buffer: int = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What the streams of one backend, or of all backends of one tenant, may use together; 0 for no limit.

    Attributes:
        max_streams: live streams.
        streams_per_second: new streams a second, with a burst of as many.
        upload_rate: bytes a second from users to targets.
        download_rate: bytes a second from targets to users.
    """

    max_streams: int = 0
    streams_per_second: int = 0
    upload_rate: int = 0
    download_rate: int = 0


class RemovalMode(StrEnum):
    """What happens to the live streams of what is removed."""

    DRAIN = "drain"
    """They may go on until a deadline."""
    KILL = "kill"
    """They end at once."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How a backend or one of its routes goes when it is removed.

    Attributes:
        seconds: until the streams that still live are cut (`RemovalMode.DRAIN`); None for the relay's own setting.
    """

    mode: RemovalMode = RemovalMode.DRAIN
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One Nexus node that sessions are opened to.

    Attributes:
        address: the normalised WebSocket address, with its path (``wss://nexus.example.com/connect``).
        ca_pem: certificates (PEM) that the node's must chain to; None for the system's store.
    """

    address: str
    name: str = ""
    ca_pem: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """One backend: who it is, what it claims, where its sessions go and where its streams end.

    Attributes:
        key: stable identity over edits and renames; unique in a `RelayConfig`.
        name: the backend's name, for logs and for ``NEXUS_BACKEND_NAME``.
        tenant: slug of its tenant, which its `tenant_limits` are shared by; empty for a configuration file.
        claims: what its tokens say. For a `PresignedToken` the claims of the token itself rule
            (`relay.tokens.session_claims`).
    """

    key: str
    name: str
    nodes: tuple[NodeConfig, ...]
    credential: Credential | None
    tenant: str = ""
    claims: Claims = Claims()
    routes: RouteTable = field(default_factory=RouteTable)
    attestation: AttestationOptions = AttestationOptions()
    health_checks: HealthCheckOptions = HealthCheckOptions()
    flow_control: FlowControlOptions = FlowControlOptions()
    socks5_listen: str = ""
    limits: Limits = Limits()
    tenant_limits: Limits = Limits()
    """Equal in all backends of one tenant."""
    removal: Removal = Removal()
    target_policies: tuple[TargetPolicy, ...] = ()
    """All of them must permit what is dialled; none for no bounds."""


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything a relay serves.

    Attributes:
        backends: by `BackendConfig.key`.
        removals: how backends go that are no longer served but still known (disabled); for those that are neither here
            nor there, `BackendConfig.removal` as it stood last counts.
        generation: the registry's generation that this was read at; 0 where there is no registry.
    """

    backends: Mapping[str, BackendConfig] = field(default_factory=lambda: MappingProxyType({}))
    generation: int = 0
    removals: Mapping[str, Removal] = field(default_factory=lambda: MappingProxyType({}))
