"""A real redis-server on loopback."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.ports import free_port
from tests.support.processes import ManagedProcess, child_environment
from tests.support.programs import find_redis_server, require


class RedisServer:
    """A redis-server that keeps nothing on disk; it can be killed, frozen and started again on the same port.

    Args:
        options: of its configuration.

    Raises:
        unittest.SkipTest: there is no redis-server on this machine.
    """

    def __init__(self, **options: str) -> None:
        self._program = require(find_redis_server(), "redis-server")
        self._directory = Path(tempfile.mkdtemp(prefix="nexusadmin-redis-"))
        self._process: ManagedProcess | None = None
        self.port = free_port()
        self._options = options

    @property
    def url(self) -> str:
        """Its REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        } | self._options
        argv: list[str] = [str(self._program)]
        for name, value in options.items():
            argv += [f"--{name}", value]
        self._process = ManagedProcess(argv, cwd=self._directory, env=child_environment())
        self._process.wait_ready(self.answers, f"redis-server answers on port {self.port}")
        return self

    def answers(self) -> bool:
        """Return whether it answers a PING within a second."""
        client = redis.Redis(port=self.port, socket_connect_timeout=1, socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def kill(self) -> None:
        """End it as a crash would; `start` brings it back, empty."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def freeze(self) -> None:
        """Keep its connections open and let it answer nothing."""
        if self._process is not None:
            self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
