"""Allowances of backends, tenants and the process: how many streams, how often, how many bytes."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.config import Limits
from relay.limits.pacing import Pacer, Pacers
from relay.limits.rate_limit import TokenBucket

OWED_SECONDS: Final = 10.0
"""Seconds' worth of bytes that streams which are over may owe before new ones are refused."""

LEAST_OWED: Final = 2 * 1024 * 1024
"""Bytes that they may always owe: what one user may have on the way (`relay.protocol.credits.CEILING`)."""

RESERVED_FILES: Final = 256
"""Open files that are not for streams: sessions, the database, a target that is being dialled twice. Half of them are
for sessions; where there are more of those, more is reserved."""


class Allowance:
    """What one backend or one tenant may use, and what it uses.

    Args:
        owner: for messages: ``backend shop`` or ``tenant shop``.
    """

    def __init__(self, owner: str, limits: Limits) -> None:
        self.owner = owner
        self.streams = 0
        self.owed_upload = self.owed_download = 0
        """Bytes that streams which are over have not paid for yet."""
        self.upload, self.download = Pacer(), Pacer()
        self._loop = asyncio.get_running_loop()
        self._new = TokenBucket(0, 0, self._loop.time())
        self.limits = Limits()
        self.change(limits)

    def change(self, limits: Limits) -> bool:
        """Take other limits; live streams stay counted and go on. Say whether they differ."""
        if limits == self.limits:
            return False
        self.limits = limits
        self.upload.change(limits.upload_rate)
        self.download.change(limits.download_rate)
        self._new.change(limits.streams_per_second, max(1, limits.streams_per_second), self._loop.time())
        return True

    def refusal(self) -> str:
        """Ask for one new stream. Return why there is none; empty where it may come."""
        limits = self.limits
        if limits.max_streams and self.streams >= limits.max_streams:
            return f"{self.owner} has its {limits.max_streams} streams (max_streams)"
        if _is_too_much(self.owed_upload, limits.upload_rate):
            return f"{self.owner} has taken more from users than its {limits.upload_rate} bytes a second (upload_rate)"
        if _is_too_much(self.owed_download, limits.download_rate):
            return f"{self.owner} has sent users more than its {limits.download_rate} bytes a second (download_rate)"
        if limits.streams_per_second and not self._new.take(1, self._loop.time()):
            return f"{self.owner} has had its {limits.streams_per_second} new streams a second (streams_per_second)"
        return ""


def _is_too_much(owed: int, rate: int) -> bool:
    return bool(rate) and owed > max(LEAST_OWED, rate * OWED_SECONDS)


class Gate:
    """What a backend's streams pass: the allowances that they share, and the process's bounds.

    Args:
        allowances: the backend's, and its tenant's where it has one.
        process: returns why the process takes no new stream; empty where it does.

    Attributes:
        upload, download: whom bytes are paid to; None where no rate is limited.
    """

    def __init__(self, allowances: Sequence[Allowance], process: Callable[[], str]) -> None:
        self._allowances, self._process = allowances, process
        self.upload: Pacers | None = None
        self.download: Pacers | None = None
        self.changed()

    def changed(self) -> None:
        """The allowances' limits may have changed."""
        upload = [allowance.upload for allowance in self._allowances if allowance.limits.upload_rate]
        download = [allowance.download for allowance in self._allowances if allowance.limits.download_rate]
        self.upload = Pacers(upload) if upload else None
        self.download = Pacers(download) if download else None

    def refusal(self) -> str:
        """Ask for one new stream. Return why there is none; empty where it may come."""
        return self._process() or next(filter(None, (allowance.refusal() for allowance in self._allowances)), "")

    def enter(self) -> None:
        """Count a stream."""
        for allowance in self._allowances:
            allowance.streams += 1

    def leave(self) -> None:
        """Count a stream no more."""
        for allowance in self._allowances:
            allowance.streams -= 1

    def owe(self, upload: int, download: int) -> None:
        """Count bytes that a stream which is over has not paid for; less than none where it has now."""
        for allowance in self._allowances:
            allowance.owed_upload += upload
            allowance.owed_download += download


@dataclass(frozen=True, slots=True)
class ProcessBounds:
    """What a process holds at most. At a bound new streams are refused; live ones go on.

    Attributes:
        max_streams: streams that hold or dial a target; 0 for as many as there may be open files.
        max_buffered: bytes that wait for targets, over all sessions.
    """

    max_streams: int = 0
    max_buffered: int = 512 * 1024 * 1024

    def streams(self, sessions: int = 0) -> int:
        """Return ``max_streams``, or what the limit of open files leaves (`RESERVED_FILES`).

        Args:
            sessions: that there are; each has a file.
        """
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reserved = max(RESERVED_FILES, sessions + RESERVED_FILES // 2)
        possible = 2**31 if files == resource.RLIM_INFINITY else max(1, files - reserved)
        return min(self.max_streams, possible) if self.max_streams else possible
