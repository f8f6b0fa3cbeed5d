"""Which streams of a session do not get on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.events import Direction, EventCallback, StreamPaused, StreamResumed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relay.sessions.streams import Stream


@dataclass(slots=True)
class _Seen:
    """What one direction of a stream had carried at the last look."""

    carried: int
    told_at: float | None = None


@dataclass(slots=True)
class Pauses:
    """Tells of the streams of one session that do not get on, from one look to the next.

    Looked at, not noted where it happens: that would cost each message something.
    """

    _seen: dict[tuple[Stream, Direction], _Seen] = field(default_factory=dict)

    def look(self, streams: Iterable[Stream], now: float, emit: EventCallback) -> None:
        """Compare with the last look, about a second ago."""
        before, self._seen = self._seen, {}
        for stream in streams:
            if stream.ended or not stream.connected:
                continue
            if stream.queued:
                self._note(stream, Direction.UPLOAD, stream.drained, before, now, emit)
            if stream.read_paused:
                self._note(stream, Direction.DOWNLOAD, stream.state.bytes_sent, before, now, emit)
        for (stream, direction), seen in before.items():
            if seen.told_at is not None and not stream.ended:
                emit(StreamResumed(stream.info(), direction, now - seen.told_at))

    def _note(
        self,
        stream: Stream,
        direction: Direction,
        carried: int,
        before: dict[tuple[Stream, Direction], _Seen],
        now: float,
        emit: EventCallback,
    ) -> None:
        """Note a direction in which bytes wait. What is left in ``before`` gets on."""
        key = (stream, direction)
        seen = before.get(key)
        if seen is None or seen.carried != carried:
            self._seen[key] = _Seen(carried)
            return
        del before[key]
        if seen.told_at is None:
            seen.told_at = now
            emit(StreamPaused(stream.info(), direction))
        self._seen[key] = seen
