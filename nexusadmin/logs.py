"""Logging configuration: one output for all log lines. `relay.logs.get_logger` makes loggers that take fields."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, Final

from relay.errors import shorten
from relay.log_writer import LogWriter
from relay.logs import Once

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


LONGEST_OF_STRANGERS: Final = 200
"""Characters of what a request alone has the log say."""


class StrangersFilter(logging.Filter):
    """Lets what a request alone causes (a wrong Host, too many fields) be one line, and not many of them.

    Django logs each with the traceback of its own code, and anyone can send such requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self._once = Once()

    def filter(self, record: logging.LogRecord) -> bool:
        refused = record.name == "django.request" and 400 <= getattr(record, "status_code", 500) < 500
        if not (record.exc_info and refused) and not record.name.startswith("django.security."):
            return True
        record.exc_info = record.exc_text = record.stack_info = None
        record.msg, record.args = shorten(record.getMessage(), LONGEST_OF_STRANGERS), None
        return self._once.allows(record.msg, record.name)


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
        "filters": {"strangers": {"()": StrangersFilter}},
        "handlers": {"stderr": {"()": LogWriter, "formatter": "structured", "filters": ["strangers"]}},
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
