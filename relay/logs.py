"""Log lines of the relay: an event in words, and its facts as fields.

Lines go to the standard library's loggers below ``relay``; the fields ride along as ``extra``, which the registry's
log format renders (``nexusadmin.logs``) and any other formatter can.
"""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import structlog

QUIET_FOR: Final = 10.0
"""Seconds for which the same trouble is not told again."""

MOST_OF_GROUP: Final = 20
"""Lines of one group of trouble in `QUIET_FOR` seconds."""

LEAST_REMEMBERED: Final = 1024
"""Kinds that are remembered before those that are long past are forgotten."""


def get_logger(name: str, **fields: Any) -> structlog.stdlib.BoundLogger:
    """Return a logger with these fields bound, which needs no set-up of structlog."""
    return cast("structlog.stdlib.BoundLogger", _Logger(name, fields))


class _Logger:
    """A logger that is made for its first line: structlog takes as long to load as all of the registry's models."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self._name = name
        self._fields = fields

    @cached_property
    def _made(self) -> structlog.stdlib.BoundLogger:
        import structlog

        logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            logging.getLogger(self._name),
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
            **self._fields,
        )
        return logger

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._made, attribute)


class Outage:
    """Tells once that something is away, and once that it is back.

    Args:
        log: where; the beginning is a warning.
        begun: the line of the beginning.
        ended: the line of the end.
        level: of the line of the end.

    Attributes:
        lasts: whether it is away.
    """

    def __init__(self, log: Any, begun: str, ended: str, level: str = "info") -> None:
        self._log, self._begun, self._ended, self._level = log, begun, ended, level
        self.lasts = False

    def begins(self, **fields: Any) -> None:
        """Take note of a failure; the first one is told."""
        if not self.lasts:
            self.lasts = True
            self._log.warning(self._begun, **fields)

    def ends(self, **fields: Any) -> None:
        """Take note of a success; the first one after a failure is told."""
        if self.lasts:
            self.lasts = False
            getattr(self._log, self._level)(self._ended, **fields)


class Once:
    """Lets each kind of trouble be told once in `QUIET_FOR` seconds, so that a dead target cannot flood the log.

    Kinds belong to groups (a backend, a node), each of which has `MOST_OF_GROUP` in that time: neither what strangers
    choose (host names) nor what one tenant breaks silences the lines of others.
    """

    def __init__(self) -> None:
        self._told: dict[object, float] = {}
        self._groups: dict[object, tuple[float, int]] = {}
        self._most = LEAST_REMEMBERED

    def allows(self, key: object, group: object) -> bool:
        """Say whether ``key`` may be told now, as one of ``group``'s."""
        now = time.monotonic()
        if now - self._told.get((group, key), -QUIET_FOR) < QUIET_FOR:
            return False
        since, told = self._groups.get(group, (now, 0))
        if now - since >= QUIET_FOR:
            since, told = now, 0
        if told >= MOST_OF_GROUP:
            return False
        if len(self._told) >= self._most:
            self._forget(now)
        self._groups[group] = (since, told + 1)
        self._told[group, key] = now
        return True

    def _forget(self, now: float) -> None:
        """Forget what is long past. The number of groups bounds the rest; the larger, the rarer the look."""
        self._told = {key: at for key, at in self._told.items() if now - at < QUIET_FOR}
        self._groups = {group: known for group, known in self._groups.items() if now - known[0] < QUIET_FOR}
        self._most = max(LEAST_REMEMBERED, 2 * len(self._told))
