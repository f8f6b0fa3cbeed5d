"""A log handler whose caller never waits: a thread writes the lines, and what finds its queue full is dropped.

A pipe that is not read, a slow terminal or a full disk would otherwise stop the event loop in its next log line, and
with it every stream.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import weakref
from collections import deque
from typing import Final, TextIO

MOST_WAITING: Final = 2 * 1024 * 1024
"""Characters of lines that may wait, each with `OVERHEAD`."""

OVERHEAD: Final = 100
"""What a waiting line counts beside its text."""

PIECE: Final = 1024
"""Characters that are written at once where there are several lines: a pipe takes 4096 bytes (PIPE_BUF) or fewer in one
piece, whatever else is written to it."""

LAST_WAIT: Final = 2.0
"""Seconds that the end of the process waits for the lines that are still there."""


class LogWriter(logging.Handler):
    """Formats records where they are logged, and writes them in a thread of its own.

    The thread begins with the first record, also after a fork. What is dropped is counted, and told when what was
    waiting has been written. Where the stream has a file descriptor that is written to directly, so that no lock of the
    stream's is held by a thread that hangs.

    Args:
        stream: where lines go; None for standard error.
        most_waiting: characters of lines that may wait.
        last_wait: seconds that `flush` waits.

    Attributes:
        dropped: lines that found the queue full, in all.
    """

    def __init__(
        self, stream: TextIO | None = None, most_waiting: int = MOST_WAITING, last_wait: float = LAST_WAIT
    ) -> None:
        super().__init__()
        self._stream = sys.stderr if stream is None else stream
        self._most_waiting, self._last_wait = most_waiting, last_wait
        self._begin_empty()
        _writers.add(self)

    def _begin_empty(self) -> None:
        self.dropped = self._untold = 0
        self._lines: deque[str] = deque()
        self._size = 0
        self._changed = threading.Condition()  # re-entrant: a signal's handler may log in the middle of `emit`
        self._writing = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record's line into the queue, or count it where there is no room."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            # One line always has room, however long it is.
            if self._lines and self._size + len(line) + OVERHEAD > self._most_waiting:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._size += len(line) + OVERHEAD
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        # Signals are for the threads that were there: one that waits for them must not miss any.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread = threading.Thread(target=self._write_lines, name="log writer", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be had now: the next line asks again
                thread.start()
                self._thread = thread
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def flush(self) -> None:
        """Wait until all is written, for `LAST_WAIT` seconds at most: at the end of the process nothing may hang."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing and not self._untold, self._last_wait)

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._untold)
                self._writing = True
                text = self._take()
                untold, self._untold = (0, self._untold) if text else (self._untold, 0)
            # The other end, or the stream, is closed: no line can be told. A formatter may fail in any way.
            with contextlib.suppress(Exception):
                self._write(text or self.format(_notice(untold)) + "\n")

    def _take(self) -> str:
        """Return lines that are written at once, so that other processes write nothing in the middle of them."""
        text = ""
        while self._lines and (not text or len(text) + len(self._lines[0]) <= PIECE):
            line = self._lines.popleft()
            self._size -= len(line) + OVERHEAD
            text += line
        return text

    def _write(self, text: str) -> None:
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
            return
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # somebody made it non-blocking; that is a matter of the open file, not of ours
                ready = select.poll()
                ready.register(descriptor, select.POLLOUT)
                ready.poll()


def _notice(dropped: int) -> logging.LogRecord:
    text = f"{dropped} log lines were dropped: what reads this log was too slow"
    record = logging.LogRecord("relay.logs", logging.WARNING, __file__, 0, text, None, None)
    record.dropped = dropped
    return record


_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


def _after_fork() -> None:
    """Begin with an empty queue: the lines are the parent's, and its thread is not here."""
    for writer in _writers:
        writer._begin_empty()


os.register_at_fork(after_in_child=_after_fork)
