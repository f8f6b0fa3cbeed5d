"""Logging configuration: one output for all log lines. `relay.logs.get_logger` makes loggers that take fields."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, Final

FORMATS: Final = ("console", "json")


class Formatter(logging.Formatter):
    """Renders records with `nexusadmin.log_lines`, loaded for the first record: most commands log nothing.

    Args:
        log_format: one of `FORMATS`.
    """

    def __init__(self, log_format: str) -> None:
        super().__init__()
        self._log_format = log_format

    @cached_property
    def _renderer(self) -> logging.Formatter:
        from nexusadmin.log_lines import formatter

        return formatter(self._log_format)

    def format(self, record: logging.LogRecord) -> str:
        return self._renderer.format(record)


def logging_config(log_format: str, level: str, *, access_log: bool) -> dict[str, Any]:
    """Return Django's LOGGING: everything to standard error, as JSON or as console lines, which no caller waits for.

    Args:
        log_format: one of `FORMATS`.
        level: the lowest level that is written.
        access_log: whether the web server's requests are written.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": {"()": Formatter, "log_format": log_format}},
        "handlers": {"stderr": {"class": "relay.log_writer.LogWriter", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # These bring handlers of their own; without them their lines go the common way.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": level, "propagate": True},
            "uvicorn": {"handlers": [], "level": level, "propagate": True},
            "uvicorn.error": {"handlers": [], "level": level, "propagate": True},
            "uvicorn.access": {"handlers": [], "level": level, "propagate": access_log},
            # A hint that cannot be sent is worth one line of ours, not the library's traceback.
            "kombu": {"level": "WARNING"},
            # At DEBUG it shows the parameters of every query.
            "django.db.backends": {"level": "INFO"},
            "asyncio": {"level": "WARNING"},
            "websockets": {"level": "WARNING"},
        },
    }
