"""A configuration file as a source that is followed while the relay runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

from relay.config import RelayConfig
from relay.configfile.convert import to_relay_config
from relay.configfile.problems import ConfigFileError
from relay.configfile.reader import read_config_file
from relay.logs import get_logger

LOOK_EVERY: Final = 1.0
"""Seconds between looks at the file."""

SETTLED: Final = 0.2
"""Seconds that a changed file must stay as it is before it is read: the first half of a list is a list, too."""

_log = get_logger("relay.configfile")

Signature = tuple[int, int, int] | None


class FileSource:
    """Yields what a file says, and again each time that it says something else.

    A file that is being written is left alone until that is over. One that cannot be used any more (a mistake, gone)
    is told of once; what was read before stays.

    Args:
        path: the file; a symbolic link may be pointed elsewhere.
        allow_insecure: take ``ws://`` node addresses beyond loopback.
        interval: seconds between looks.
        warns: log the file's warnings, each once: of several that follow one file, one should.
    """

    def __init__(
        self, path: str, *, allow_insecure: bool = False, interval: float = LOOK_EVERY, warns: bool = True
    ) -> None:
        self._path = path
        self._warns = warns
        self._told: set[tuple[str, str]] = set()
        self._allow_insecure = allow_insecure
        self._interval = interval
        self._asked = asyncio.Event()

    def reload(self) -> None:
        """Read the file now, whether or not it looks changed."""
        self._asked.set()

    async def configs(self) -> AsyncIterator[RelayConfig]:
        """Yield the configuration and its successors.

        Raises:
            ConfigFileError: the file cannot be used at the first reading.
        """
        seen = await asyncio.to_thread(self._signature)
        yield await asyncio.to_thread(self._read)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._asked.wait()
            found = await asyncio.to_thread(self._signature)
            if found == seen and not self._asked.is_set():
                continue
            self._asked.clear()
            seen = await self._settled(found)
            try:
                config = await asyncio.to_thread(self._read)
            except ConfigFileError as error:
                problems = "; ".join(str(problem) for problem in error.problems)  # a record is one line
                _log.error(f"configuration file not taken, the relay goes on with what it had: {problems}")
            else:
                yield config

    async def _settled(self, found: Signature) -> Signature:
        """Wait until the file is not being written any more, and return its signature then."""
        while True:
            await asyncio.sleep(SETTLED)
            before, found = found, await asyncio.to_thread(self._signature)
            if found == before:
                return found

    def _read(self) -> RelayConfig:
        document = read_config_file(self._path, allow_insecure=self._allow_insecure)
        warnings = {(warning.path, warning.message): warning for warning in document.warnings if self._warns}
        for key, warning in warnings.items():
            if key not in self._told:
                _log.warning(str(warning))
        self._told = set(warnings)
        return to_relay_config(document)

    def _signature(self) -> Signature:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
