"""A real Celery worker as a process of its own."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from celery import current_app
from kombu import pools

from tests.support.processes import ManagedProcess, child_environment


def forget_connections() -> None:
    """Close this process's pooled connections to a broker, so that the next task opens one to the broker of then.

    Celery's own pools stay closed for ever once they are.
    """
    current_app.pool.force_close_all()
    pools.reset()
    current_app._pool = current_app.amqp._producer_pool = None


class CeleryWorker:
    """A worker of this project's Celery application, with the test's database.

    Args:
        redis_url: its broker, and where it announces generations.
        overrides: further environment variables; None removes one.
    """

    def __init__(self, redis_url: str, **overrides: str | None) -> None:
        variables: dict[str, str | None] = {"REDIS_URL": redis_url, "LOG_FORMAT": "console", "LOG_LEVEL": "INFO"}
        self._environment = child_environment(**{**variables, **overrides})
        self._process: ManagedProcess | None = None

    def start(self) -> Self:
        """Start it and wait until it takes tasks."""
        argv = [sys.executable, "-m", "celery", "--app", "nexusadmin", "worker", "--pool", "solo", "--loglevel", "INFO"]
        self._process = ManagedProcess(
            [*argv, "--without-mingle", "--without-gossip", "--hostname", "test@%h"], env=self._environment
        )
        self._process.wait_ready(lambda: " ready." in self.output(), "the Celery worker is ready")
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        """Return everything that it has logged so far."""
        return "" if self._process is None else self._process.output()

    def wait_said(self, text: str) -> None:
        """Wait until it has said something."""
        assert self._process is not None
        self._process.wait_ready(lambda: text in self.output(), f"the Celery worker says: {text}")

    def wait_connected_again(self) -> None:
        """Wait until it has lost its broker and reached it again (it retries after 2 s, 4 s, …)."""
        assert self._process is not None
        self._process.wait_ready(
            lambda: (
                "Connected to redis" in self.output().rpartition("Connection to broker lost")[2]
                and "Connection to broker lost" in self.output()
            ),
            "the Celery worker has its broker back",
        )

    def stop(self) -> None:
        """End it; tasks that it has not begun stay in the broker."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
