"""Celery's broker on Redis, where a failover is a lost connection."""

from __future__ import annotations

from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError

PATH: Final = f"{__name__}:Transport"


class Channel(redis.Channel):
    """A channel that survives what a server says when it becomes a replica.

    It then ends blocking reads with UNBLOCKED and refuses writes with READONLY, which kombu takes for mistakes of the
    program: the worker would end.
    """

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ResponseError as error:
            if str(error).startswith("UNBLOCKED"):
                self.client.connection.disconnect()
                raise ConnectionError(str(error)) from error
            raise


class Transport(redis.Transport):
    """kombu's transport with such channels."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ReadOnlyError)


def use() -> None:
    """Let all of kombu's addresses of Redis be served by this transport."""
    for scheme in ("redis", "rediss", "redis+socket"):
        TRANSPORT_ALIASES[scheme] = PATH
