"""Several processes for one relay: a parent that starts workers, restarts those that die, and passes signals on.

Each worker is a relay of its own that serves its share of the backends. The parent holds no connection, no event loop
and no configuration: there is little in it that could fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

from relay.config import BackendConfig, Limits, RelayConfig
from relay.logs import get_logger
from relay.orphans import OrphanReaper, is_init
from relay.service import STOP_SIGNALS, ConfigSource, ReloadableSource, ignore_hangup
from relay.timings import Timings

_log = get_logger("relay.workers")


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use: its affinity, and the CPU quota of its container, rounded up.

    Args:
        cgroups: where they are mounted (version 2, or version 1).
    """
    cores = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # not mounted, or "max": no quota
            quota, period = (int(part) for name in files for part in (cgroups / name).read_text().split())
            if quota > 0 < period:
                cores = min(cores, -(-quota // period))
    return cores


def worker_of(backend: BackendConfig, count: int) -> int:
    """Return which of ``count`` workers serves a backend: always the same one, whatever else is configured.

    Backends of a tenant with limits stay together, since what they share is counted in one process.
    """
    limited = backend.tenant and backend.tenant_limits != Limits()
    name = f"tenant:{backend.tenant}" if limited else backend.key
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") % count


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of all backends a worker serves.

    Attributes:
        index: 0 to ``count`` - 1.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read ``0/2``, as ``str`` writes it."""
        index, _, count = text.partition("/")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, config: RelayConfig) -> RelayConfig:
        """Return the configuration with this share of its backends."""
        backends = {
            key: backend for key, backend in config.backends.items() if worker_of(backend, self.count) == self.index
        }
        return replace(config, backends=MappingProxyType(backends))


class SharedSource:
    """A `ConfigSource` that yields one worker's share of what another yields."""

    def __init__(self, source: ConfigSource, share: Share) -> None:
        self._source, self._share = source, share

    async def configs(self) -> AsyncIterator[RelayConfig]:
        """Yield the share of each configuration."""
        async with contextlib.aclosing(self._source.configs()) as configs:  # type: ignore[type-var]
            async for config in configs:
                yield self._share.of(config)

    def reload(self) -> None:
        """Let the other source read again."""
        if isinstance(self._source, ReloadableSource):
            self._source.reload()


@dataclass(slots=True)
class _Worker:
    share: Share
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    started: float = 0.0
    delay: float = 0.0
    due: float = 0.0
    codes: list[int] = field(default_factory=list)


def run_workers(argv: Sequence[str], count: int, timings: Timings = Timings()) -> int:
    """Run ``count`` workers until a signal. Return 0, or the code of a worker that ended badly while stopping.

    SIGTERM, SIGINT and SIGHUP are passed on to the workers, each as often as it comes; after the first two the parent
    ends when they have. A worker that dies is started again, a little later each time. Where the parent is killed its
    workers notice that their standard input has ended, and drain.

    Args:
        argv: the command line of a worker; ``--worker INDEX/COUNT`` is put behind it.
        timings: how long a worker that died waits.
    """
    caught = {*STOP_SIGNALS, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    workers = [_Worker(Share(index, count)) for index in range(count)]
    stopping, orphans, look_at = False, OrphanReaper(), 0.0
    try:
        while True:
            for worker in workers:
                if worker.process is None and not stopping and time.monotonic() >= worker.due:
                    _start(worker, argv)
            if stopping and all(worker.process is None for worker in workers):
                return next((code for worker in workers for code in worker.codes if code), 0)
            due = [worker.due for worker in workers if worker.process is None]
            wait = max(0.0, min(due) - time.monotonic()) if due and not stopping else 3600.0
            wait = min(wait, timings.reap_every) if is_init() else wait
            caught_signal = signal.sigtimedwait(caught, wait)
            if caught_signal is not None and caught_signal.si_signo != signal.SIGCHLD:
                stopping |= caught_signal.si_signo in STOP_SIGNALS
                for worker in workers:
                    if worker.process is not None:
                        worker.process.send_signal(caught_signal.si_signo)
            for worker in workers:
                _note_end(worker, timings, stopping=stopping)
            if is_init() and time.monotonic() >= look_at:  # not at each SIGCHLD: orphans bring those too
                orphans.look()
                look_at = time.monotonic() + timings.reap_every
    finally:
        for worker in workers:
            if worker.process is not None:
                worker.process.kill()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(worker: _Worker, argv: Sequence[str]) -> None:
    read_end, worker.lifeline = os.pipe()
    worker.process = subprocess.Popen(
        [*argv, "--worker", str(worker.share)],
        stdin=read_end,
        # A group of its own: Ctrl-C in a terminal comes from the parent alone, once.
        start_new_session=True,
        preexec_fn=_take_signals,  # noqa: PLW1509 - the log's thread has no lock of what it calls
    )
    os.close(read_end)
    worker.started = time.monotonic()
    _log.info("worker started", worker=worker.share.index, pid=worker.process.pid)


def _take_signals() -> None:
    ignore_hangup()  # until the worker listens for it
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _note_end(worker: _Worker, timings: Timings, *, stopping: bool) -> None:
    if worker.process is None:
        return
    code = worker.process.poll()
    if code is None:
        return
    os.close(worker.lifeline)
    pid, worker.process = worker.process.pid, None
    if stopping:
        worker.codes.append(code)
        return
    first, longest = timings.worker_restart
    steady = time.monotonic() - worker.started >= timings.worker_steady
    worker.delay = first if steady else min(longest, worker.delay * 2 or first)
    worker.due = time.monotonic() + worker.delay
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    _log.error(f"worker died: {how}", worker=worker.share.index, pid=pid, restart_in_seconds=worker.delay)
