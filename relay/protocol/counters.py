"""What a session counts of the protocol."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What a session has seen. Messages, but where a name says otherwise."""

    data_received: int = 0
    data_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    streams_opened: int = 0
    streams_refused: int = 0
    malformed: int = 0
    unknown_events: int = 0
    unknown_streams: int = 0
    health_timeouts: int = 0
    reauths: int = 0
