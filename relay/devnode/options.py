"""What a development node can be told; the defaults are the figures of a real node (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PortSpec = Iterable[int] | Mapping[int, int]
"""Public ports: numbers to listen on, or ``{advertised: listened}``; 0 listens on a free one (and advertises that)."""


class NodeDialect(StrEnum):
    """Which generation of node this is (docs/protocol.md, "Session")."""

    ATTESTED = "attested"
    TOKEN = "token"  # noqa: S105  # the dialect's name


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Options of a `DevNode`. Times are seconds, sizes are messages unless said otherwise.

    Attributes:
        dialect: what the node speaks; the text ``"attested"`` or ``"token"`` does.
        secret: the HS256 key that tokens are checked with.
        verifier_url: where tokens are checked (``remoteVerifierURL``); user information in it is sent as Basic
            authentication. The secret then counts only where that is away, and an empty one not at all.
        verifier_headers: sent with every question.
        verifier_ca: CA file of the verifier's certificate; None for the system's store.
        verifier_certificate: file with the certificate and key that the node shows to the verifier.
        status_retry: time between two looks at an authorizer that is in maintenance.
        maintenance_grace: how long that may put a re-authentication off where the claims say nothing.
        host: address that everything listens on.
        hub_port: where sessions come in; 0 for a free one.
        tls: whether the hub speaks TLS (``wss://``) or plain ``ws://``.
        http_ports, tls_ports: public ports that are routed by Host or SNI (each takes both).
        tcp_ports, udp_ports: public ports that a session may claim whole; also the allow-list of such claims.
        certificate_directory: where the CA and the hub's certificate are kept; None for a temporary place.
        outbound_permitted: whether outbound claims are allowed; a session with others is refused whole.
        outbound_ports: which ports such claims may name; none for any.
        token_wait: time given for each token.
        reauth_grace: time given for the answer to a ``reauth_challenge`` where the claims say nothing.
        reauth_jitter: part of the interval by which a ``reauth_challenge`` may come earlier or later.
        ping_interval: time between WebSocket pings.
        silence_limit: a session that was not heard from for that long is dropped.
        write_timeout: a session whose socket takes nothing for that long is dropped.
        dead_session_linger: how long a session that was lost uncleanly stays in the pool.
        idle_timeout: a stream whose user sends nothing, or that has no credits, for that long is killed; as long again
            is given where something was written to the user meanwhile.
        udp_idle_timeout: a flow's life without datagrams where the claims say nothing; what they say is taken as 5 to
            300 s.
        peek_timeout: time given to a user to show a Host or an SNI.
        dial_timeout: time given to the dial of an ``outbound_connect``.
        lane_size: length of a session's shared lane.
        one_writer: whether the lane's one writer is slower than its many producers, as in a busy node, so that open
            windows fill the lane even of a client that reads all the time. Without it, and in the token dialect,
            which has no windows, the lane is emptied for as long as the client's socket takes messages.
        credits: the grant in ``connect``.
        grant_batch: messages per later grant.
        user_buffer: messages that wait for a slow user.
    """

    dialect: NodeDialect | str = NodeDialect.ATTESTED
    secret: str = field(default="devnode-secret-devnode-secret-32b", repr=False)
    verifier_url: str = field(default="", repr=False)
    verifier_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verifier_ca: Path | str | None = None
    verifier_certificate: Path | str | None = None
    status_retry: float = 1.0
    maintenance_grace: float = 1800.0
    host: str = "127.0.0.1"
    hub_port: int = 0
    tls: bool = True
    http_ports: PortSpec = ()
    tls_ports: PortSpec = ()
    tcp_ports: PortSpec = ()
    udp_ports: PortSpec = ()
    certificate_directory: Path | str | None = None
    outbound_permitted: bool = True
    outbound_ports: Collection[int] = ()
    token_wait: float = 10.0
    reauth_grace: float = 10.0
    reauth_jitter: float = 0.1
    ping_interval: float = 54.0
    silence_limit: float = 60.0
    write_timeout: float = 10.0
    dead_session_linger: float = 60.0
    idle_timeout: float = 60.0
    udp_idle_timeout: float = 30.0
    peek_timeout: float = 10.0
    dial_timeout: float = 10.0
    lane_size: int = 256
    one_writer: bool = False
    credits: int = 64
    grant_batch: int = 8
    user_buffer: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "dialect", NodeDialect(self.dialect))

    @property
    def attested(self) -> bool:
        """Whether the node speaks the attested dialect."""
        return self.dialect is NodeDialect.ATTESTED
