"""Log lines of the relay: an event in words, and its facts as fields.

Lines go to the standard library's loggers below ``relay``; the fields ride along as ``extra``, which the registry's
log format renders (``nexusadmin.logs``) and any other formatter can.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import structlog

QUIET_FOR: Final = 10.0
"""Seconds for which the same trouble is not told again."""

MOST_OF_GROUP: Final = 20
"""Lines of one group of trouble in `QUIET_FOR` seconds."""


def get_logger(name: str, **fields: Any) -> structlog.stdlib.BoundLogger:
    """Return a logger with these fields bound, which needs no set-up of structlog."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        **fields,
    )
    return logger


class Once:
    """Lets each kind of trouble be told once in `QUIET_FOR` seconds, so that a dead target can not flood the log.

    Of kinds that differ in what strangers choose (host names) each group has `MOST_OF_GROUP` in that time.
    """

    def __init__(self) -> None:
        self._told: dict[object, float] = {}
        self._groups: dict[object, tuple[float, int]] = {}

    def allows(self, key: object, group: object = None) -> bool:
        """Say whether ``key`` may be told now."""
        now = time.monotonic()
        if now - self._told.get(key, -QUIET_FOR) < QUIET_FOR:
            return False
        since, told = self._groups.get(group, (now, 0))
        if now - since >= QUIET_FOR:
            since, told = now, 0
        if told >= MOST_OF_GROUP:
            return False
        for known in (self._told, self._groups):
            if len(known) >= 1024:
                known.clear()
        self._groups[group] = (since, told + 1)
        self._told[key] = now
        return True
