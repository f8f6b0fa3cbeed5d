"""The end of streams whose routes were removed from a backend that stays: at once, or at a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from relay.config import Removal, RemovalMode
from relay.protocol.messages import Reason
from relay.sessions.streams import Stream


def drain_seconds(removal: Removal, default: float) -> float:
    """Return for how many seconds the streams of what is removed may go on.

    Args:
        default: where the removal leaves it to the relay.
    """
    if removal.mode is RemovalMode.KILL:
        return 0.0
    return default if removal.seconds is None else removal.seconds


class RouteDrain:
    """The streams of one backend whose route is gone.

    Args:
        routed: says whether a stream's route is there.
    """

    def __init__(self, routed: Callable[[Stream], bool]) -> None:
        self._routed = routed
        self._deadlines: dict[Stream, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def routes_changed(self, streams: Iterable[Stream], seconds: float) -> int:
        """Look at the streams again, after an edit of the routes. Return how many have lost theirs by it.

        A stream whose route has come back is left alone. One that has lost it may go on for ``seconds``, or for what
        an earlier edit left it, where that is less.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        before, self._deadlines = self._deadlines, {}
        lost = 0
        for stream in streams:
            if stream.ended or self._routed(stream):
                continue
            lost += stream not in before
            self._deadlines[stream] = min(deadline, before.get(stream, deadline))
        self._end_due()
        return lost

    def end_late(self, streams: Iterable[Stream], served: Callable[[Stream], bool]) -> None:
        """End those without a route that came after it was removed, but for those that ``served`` says are served."""
        for stream in list(streams):
            if not stream.ended and stream not in self._deadlines and not self._routed(stream) and not served(stream):
                stream.end(Reason.SHUTDOWN)
                stream.abort()

    def stop(self) -> None:
        """Leave all streams alone."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _end_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = asyncio.get_running_loop().time()
        for stream in [stream for stream, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[stream]
            stream.end(Reason.SHUTDOWN)
            stream.abort()
        if self._deadlines:
            self._timer = asyncio.get_running_loop().call_at(min(self._deadlines.values()), self._end_due)
