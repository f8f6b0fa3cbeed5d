"""How log lines are rendered: every record of the standard library's loggers, with the fields that ride along."""

from __future__ import annotations

import re
from typing import cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_WORDS = ("token", "secret", "password", "authorization", "cookie", "private_key", "credential")


def hide_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace the text of fields whose name says that they hold a secret: a last net, not a licence."""
    for name, value in event.items():
        if isinstance(value, str | bytes) and any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = "[hidden]"
    return event


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        drop_colours,
        hide_secrets,
    ]


def drop_colours(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of its message, made for terminals."""
    event.pop("color_message", None)
    return event


# C0 and C1 controls but tab and line feed, and what turns lines around or ends them for some readers.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _escaped(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Escape control characters and line ends in the texts: nodes and users choose some of them."""
    for name, value in event.items():
        if isinstance(value, str) and name not in ("exception", "stack"):
            event[name] = _escaped(value).replace("\n", "\\n").replace("\t", "\\t")
    return event


# An invitation's address is as good as a password, and web servers log addresses.
_INVITATION = re.compile(r"(/invitations/)(?!accept/)[^/\s\"'?&]+")


def printable(logger: WrappedLogger, method: str, line: str) -> str:
    """Escape what is left in the rendered line, tracebacks included, and hide invitations' tokens; valid JSON too."""
    return _INVITATION.sub(r"\1[hidden]", _escaped(line))


def formatter(log_format: str) -> structlog.stdlib.ProcessorFormatter:
    """Return what renders records as lines.

    Args:
        log_format: one of `nexusadmin.logs.FORMATS`.
    """
    renderers: list[Processor]
    if log_format == "json":
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # Not rich's traceback: it shows the local variables, and those may hold secrets.
        console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        renderers = [one_line, console]
    last = cast(Processor, printable)  # it is given the rendered line, which structlog's type does not say
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(), processors=[remove_meta, *renderers, last]
    )
