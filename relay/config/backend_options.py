"""Options of a backend beside its claims and routes. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class AttestationOptions:
    """What goes into the relay's own tokens beside the claims (docs/protocol.md, "Configuration file")."""

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
    """Whether and when an idle stream is probed with ``ping_client`` (docs/protocol.md, "Binary frames")."""

    enabled: bool = True
    inactivity_timeout: float = 60.0
    pong_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class FlowControlOptions:
    """Per-stream marks in messages of at most 32 KiB; ``low_water < high_water < max_buffer``.

    ``max_buffer`` sets how much may wait for one target (`relay.sessions.session.BOUND_FACTOR`). The
    two marks are kept for the files that have them: users are slowed down by credits, not by pausing them at a mark.
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
