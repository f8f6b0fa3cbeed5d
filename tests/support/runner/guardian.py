"""Ends what a killed test run has left: a process of its own, which outlives the run by a moment.

Every process that tests start inherits the environment variable `MARK`. The guardian's input ends when the run does,
however that came; whatever still has the run's mark is killed then. That finds children of children, those in sessions
of their own and those that a thread started, which groups and the kernel's death signals do not.

This file runs as a program too, and imports the standard library only.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

MARK = "NEXUSADMIN_TEST_RUN"


def new_mark() -> str:
    """Return a mark for a run."""
    return f"{os.getpid()}-{secrets.token_hex(8)}/"


def mark_process(part: str) -> str:
    """Let the processes that this one starts from now on belong to a part of the run; return their mark."""
    run = os.environ.get(MARK, "").partition("/")[0]
    os.environ[MARK] = f"{run}/{part}/"
    return os.environ[MARK]


def marked(mark: str) -> Iterator[int]:
    """Yield the process ids whose mark begins so, but for this process. Linux only; elsewhere there are none."""
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read().split(b"\0")
        except OSError:
            continue  # it has ended, or belongs to somebody else
        if any(variable.startswith(wanted) for variable in environment):
            yield int(name)


def kill_marked(mark: str) -> int:
    """Kill the processes whose mark begins so, until none is left; return how many there were."""
    killed: set[int] = set()
    quiet, deadline = 0, time.monotonic() + 10  # one that the kernel does not let go cannot be waited for
    while quiet < 2 and time.monotonic() < deadline:  # what was being started at the first look is marked at the second
        found = set(marked(mark))
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        killed |= found
        quiet = 0 if found else quiet + 1
        if killed:
            time.sleep(0.05)
    return len(killed)


class Guardian:
    """Marks this process and starts the guardian; ends it, and what is left then, at the end of the context."""

    def __enter__(self) -> Guardian:
        self._before = os.environ.get(MARK)
        self.mark = os.environ[MARK] = new_mark()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.mark],
            stdin=subprocess.PIPE,
            env={},
            start_new_session=True,  # a signal to the run's group must not reach it
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        if self._before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = self._before


if __name__ == "__main__":
    sys.stdin.read()
    kill_marked(sys.argv[1])
