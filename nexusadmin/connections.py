"""Tries the connections that the settings name: database, Redis as each of its users opens it, and the mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.mail import get_connection
from django.db import DatabaseError, connections

WAIT: Final = 3
"""Seconds that a server has for an answer."""


def check_connections(**_: Any) -> list[CheckMessage]:
    """Return a warning for each server that gives no answer, and an error for each that we cannot use or trust."""
    return [*_check_databases(), *_check_redis(), *_check_mail()]


def _check_databases() -> Iterator[CheckMessage]:
    for alias in connections:
        connection = connections[alias]
        name = connection.settings_dict["NAME"]
        if connection.vendor == "sqlite" and not Path(name).exists():
            continue  # opening it would make it; `migrate` says so
        problem = _problem(connection.ensure_connection, DatabaseError)
        if problem:
            yield _unreachable("The database", "DATABASE_URL", problem)
        connection.close()


def _check_redis() -> Iterator[CheckMessage]:
    if not settings.REDIS_URL:
        return
    import redis
    from kombu import Connection
    from kombu.exceptions import KombuError

    def ping() -> None:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=WAIT, socket_timeout=WAIT) as client:
            client.ping()

    def ping_as_celery() -> None:
        options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "socket_timeout": WAIT}
        ssl = getattr(settings, "CELERY_BROKER_USE_SSL", False)
        with Connection(settings.CELERY_BROKER_URL, ssl=ssl, transport_options=options) as connection:
            connection.default_channel.client.ping()

    for name, open_it in (("Redis", ping), ("Redis as Celery's broker", ping_as_celery)):
        problem = _problem(open_it, redis.RedisError, KombuError, ValueError)
        if problem:
            yield _unreachable(name, "REDIS_URL", problem)


def _check_mail() -> Iterator[CheckMessage]:
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        return
    connection = get_connection(timeout=WAIT)
    problem = _problem(connection.open, OSError)
    if problem:
        yield _unreachable("The mail server", "EMAIL_URL", problem)
    connection.close()


def _problem(open_it: Callable[[], object], *expected: type[Exception]) -> Exception | None:
    try:
        open_it()
    except Exception as error:
        if not isinstance(error, (*expected, OSError)):
            raise
        return error
    return None


_REFUSALS: Final = ("certificate", "auth", "password", "denied", "username", "does not exist", "wrongpass", "noperm")
"""Words of servers that are there and do not take us, or that we do not trust."""


def _unreachable(name: str, setting: str, problem: Exception) -> CheckMessage:
    # The words of servers and libraries name hosts, ports and users, never passwords.
    words = " ".join(str(problem).split()) or type(problem).__name__
    if any(word in words.lower() for word in _REFUSALS):
        return Error(f"{name} cannot be used: {words}", hint=f"Correct {setting}.", id="nexusadmin.E010")
    return Warning(f"{name} gives no answer: {words}", hint=f"Start it, or correct {setting}.", id="nexusadmin.W010")
