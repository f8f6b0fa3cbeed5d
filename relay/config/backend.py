"""A relay's whole configuration: nodes, backends and all of them together.

Everything that a relay does follows from one `RelayConfig`. The registry's bridge and the configuration-file reader
make them; the supervisor compares the newest with what runs and reconciles (docs/architecture.md). Values are
normalised and validated before: `relay.config.hostnames`, `relay.config.targets`, `relay.config.addresses`.

Durations are seconds. Secrets never appear in a ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from relay.config.addresses import without_query
from relay.config.backend_options import AttestationOptions, FlowControlOptions, HealthCheckOptions, Limits, Removal
from relay.config.claims import Claims
from relay.config.credentials import Credential
from relay.config.target_policy import TargetPolicy
from relay.routing import RouteTable


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One Nexus node that sessions are opened to.

    Attributes:
        address: the normalised WebSocket address, with its path (``wss://nexus.example.com/connect``).
        ca_pem: certificates (PEM) that the node's must chain to; None for the system's store.
        proxy: address of the proxy that leads to it (`relay.config.proxies.parse_proxy`), ``direct`` for none; empty
            for what the relay is told.
    """

    address: str
    name: str = ""
    ca_pem: str | None = field(default=None, repr=False)
    proxy: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """The address as it is logged."""
        return without_query(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """How a backend serves, whether a registry or a file says so; each has a line in `relay.configfile.fields`."""

    attestation: AttestationOptions = AttestationOptions()
    health_checks: HealthCheckOptions = HealthCheckOptions()
    flow_control: FlowControlOptions = FlowControlOptions()
    socks5_listen: str = ""
    limits: Limits = Limits()
    removal: Removal = Removal()


@dataclass(frozen=True, slots=True)
class BackendConfig(BackendSettings):
    """One backend: who it is, what it claims, where its sessions go and where its streams end.

    Attributes:
        key: stable identity over edits and renames; unique in a `RelayConfig`.
        name: the backend's name, for logs and for ``NEXUS_BACKEND_NAME``.
        tenant: slug of its tenant, which its `tenant_limits` are shared by; empty for a configuration file.
        claims: what its tokens say. For a `PresignedToken` the claims of the token itself rule
            (`relay.tokens.sources.session_claims`).
    """

    key: str
    name: str
    nodes: tuple[NodeConfig, ...]
    credential: Credential | None
    tenant: str = ""
    claims: Claims = Claims()
    routes: RouteTable = field(default_factory=RouteTable)
    tenant_limits: Limits = Limits()
    """Equal in all backends of one tenant."""
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
