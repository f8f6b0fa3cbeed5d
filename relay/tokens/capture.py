"""What a program prints, read beside the event loop's other work until the program ends, however its output goes on."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from typing import Final, Self

from relay.errors import shorten
from relay.text import printable

LONGEST_LINE: Final = 200
"""Characters of a line that are shown."""

_AT_ONCE: Final = 65_536
_SHORTEST_SECRET: Final = 4
_TOKENS: Final = re.compile(r"\beyJ[\w-]+(\.[\w-]*)*|[\w+=-]{32,}")
"""JWTs, and whatever is so long and without a gap that it may be a key."""


class Capture:
    """A pipe whose end for writing goes to a program, and what came through it so far.

    The program's exit, not the end of the pipe, says that all is there: a helper that it leaves behind holds a copy of
    the pipe. The pipe is read while the program runs, so that it never waits for us.

    Args:
        most: bytes that are kept.
        keep_end: keep the last ones of more; else more is an overflow, at which reading ends.

    Attributes:
        writer: file descriptor for the program.
        overflowed: it printed more than may be kept.
    """

    def __init__(self, most: int, *, keep_end: bool = False) -> None:
        self._most, self._keep_end = most, keep_end
        self._kept = bytearray()
        self._reader, self.writer = os.pipe()  # no other program that is started meanwhile inherits them
        self._reading = False
        self._on_overflow: Callable[[], object] | None = None
        self.overflowed = False
        os.set_blocking(self._reader, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._close_writer()
        os.close(self._reader)

    def start(self, on_overflow: Callable[[], object] | None = None) -> None:
        """Read from now on. The program has its copy of the end for writing by now."""
        self._close_writer()
        self._on_overflow = on_overflow
        self._reading = True
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def content(self) -> bytes:
        """Return what was printed so far, also what is in the pipe still."""
        while self._read():
            pass
        return bytes(self._kept)

    def _read(self) -> bool:
        """Take a piece; return whether there was one."""
        if self.overflowed:
            return False
        try:
            piece = os.read(self._reader, _AT_ONCE)
        except BlockingIOError:
            return False
        self._kept += piece
        if len(self._kept) > self._most:
            if self._keep_end:
                del self._kept[: -self._most]
            else:
                self.overflowed = True
                if self._on_overflow is not None:
                    self._on_overflow()
        if not piece or self.overflowed:
            self._stop()
        return bool(piece)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._reader)

    def _close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


def last_line(printed: bytes, secrets: Iterable[str]) -> str:
    """Return the last line with words on it, fit for a log: shortened, printable, without what may be secret.

    Args:
        secrets: texts that are never shown; very short ones say nothing and are let through.
    """
    lines = [line.strip() for line in printed.decode("utf-8", "replace").splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    parts = {part.strip() for secret in secrets for part in (secret, *secret.splitlines())}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "…")
    return shorten(printable(_TOKENS.sub("…", text)), LONGEST_LINE)
