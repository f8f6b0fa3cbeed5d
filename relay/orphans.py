"""Takes orphans that have ended off the list of processes, where this process is the first one of a container.

What attestation commands leave behind becomes a child of process 1, and stays as a zombie until that asks how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from relay.tasks import cancel


def is_init() -> bool:
    """Say whether orphans become children of this process."""
    return os.getpid() == 1


def zombie_children() -> set[int]:
    """Return the process ids of children that have ended and were not waited for. Linux only; elsewhere none."""
    me, found = os.getpid(), set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it has gone
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == me:
                found.add(int(path.parent.name))
    return found


class OrphanReaper:
    """Reaps zombies that were there at the look before.

    Those who wait for a child of their own do so at once, so that it is no zombie at two looks that are seconds apart.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self) -> set[int]:
        """Look once; return the process ids of the reaped ones."""
        found = zombie_children()
        reaped = found & self._seen
        for pid in reaped:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = found - reaped
        return reaped


@contextlib.asynccontextmanager
async def reaping(interval: float) -> AsyncIterator[None]:
    """Look every ``interval`` seconds while the context lasts, where this process is the first one."""

    async def look_again() -> None:
        reaper = OrphanReaper()
        while True:
            await asyncio.sleep(interval)
            reaper.look()

    if not is_init():
        yield
        return
    looking = asyncio.create_task(look_again(), name="orphans")
    try:
        yield
    finally:
        await cancel(looking)
