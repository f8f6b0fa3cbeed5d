"""A snapshot of what a relay is doing. Durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from relay.config import BackendConfig
from relay.events import StreamInfo
from relay.sessions.session import Session
from relay.sessions.streams import Stream
from relay.sessions.uplink import Uplink
from relay.sessions.usage import SessionBook, SessionTotals
from relay.targets.health import TargetStatus


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A live stream, or one whose user left before its target had everything.

    Attributes:
        seconds: since the node announced it.
        bytes_received: from the user.
        bytes_sent: to the user.
        waiting: bytes that the target has not taken yet.
        credits: data messages that the node takes still; None where it sets no limit.
    """

    stream: StreamInfo
    seconds: float
    bytes_received: int
    bytes_sent: int
    waiting: int
    credits: int | None


@dataclass(frozen=True, slots=True)
class SessionStats:
    """A session.

    Attributes:
        state: ``opening``, ``up``, ``replaced`` (serves what it has), ``draining`` or ``ended`` (is being closed).
        dialect: ``token`` or ``attested``.
        seconds: since it was begun.
        counters: by name; what `relay.protocol.counters.Counters` and `relay.sessions.totals.Totals` hold.
    """

    node: str
    state: str
    dialect: str
    seconds: float
    streams: tuple[StreamStats, ...]
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BackendStats:
    """A backend: its sessions, and what the health checks say of its targets.

    Attributes:
        nodes: what is being done about each node, by its address: what `UplinkSnapshot.state` holds.
        totals: of its sessions since the relay began to serve it, before it was removed and came back too.
    """

    key: str
    name: str
    tenant: str
    nodes: Mapping[str, str]
    sessions: tuple[SessionStats, ...]
    targets: tuple[TargetStatus, ...]
    totals: SessionTotals


@dataclass(frozen=True, slots=True)
class RelayStats:
    """Everything at one moment.

    Attributes:
        generation: of the configuration that is followed.
        streams: live streams of all sessions.
        held: streams of all sessions, past ones too, that hold or dial a target.
        sessions: sessions that live, those on their way out too.
        stopping: uplinks, each of one backend to one node, that are on their way out.
        too_late: users whom nodes had sent when our Close left, since the relay began: they are lost.
    """

    generation: int
    streams: int
    backends: tuple[BackendStats, ...]
    held: int = 0
    sessions: int = 0
    stopping: int = 0
    too_late: int = 0


def backend_stats(
    backend: BackendConfig, uplinks: list[Uplink], targets: list[TargetStatus], book: SessionBook
) -> BackendStats:
    """Return what a backend is doing; costs as much as it has live streams."""
    sessions = [session for uplink in uplinks for session in uplink.sessions()]
    return BackendStats(
        key=backend.key,
        name=backend.name,
        tenant=backend.tenant,
        nodes={uplink.node.address: uplink.status().state for uplink in uplinks},
        sessions=tuple(_session(session) for session in sessions),
        targets=tuple(targets),
        totals=book.totals(session.totals for session in sessions),
    )


def _session(session: Session) -> SessionStats:
    streams = {state.context for state in session.core.streams.values() if isinstance(state.context, Stream)}
    return SessionStats(
        node=session.node.address,
        state=session.phase.value,
        dialect=session.core.dialect.value,
        seconds=session.age,
        streams=tuple(_stream(stream) for stream in sorted(streams | session.live, key=lambda stream: -stream.age)),
        counters=asdict(session.core.counters) | asdict(session.totals),
    )


def _stream(stream: Stream) -> StreamStats:
    return StreamStats(
        stream=stream.info(),
        seconds=stream.age,
        bytes_received=stream.state.bytes_received,
        bytes_sent=stream.state.bytes_sent,
        waiting=stream.queued,
        credits=stream.state.send_credits,
    )
