"""A real PostgreSQL server on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from tests.support.processes import ManagedProcess
from tests.support.programs import find_postgres_programs, require

OWNER = "nexusadmin"


class PostgresServer:
    """A PostgreSQL cluster in a directory of its own, without durability; it can be stopped and started again.

    As root it runs as the account `postgres` or `nobody`, since PostgreSQL refuses root.

    Raises:
        unittest.SkipTest: there is no PostgreSQL on this machine.
    """

    def __init__(self) -> None:
        programs = require(find_postgres_programs(), "PostgreSQL")
        self._user = _other_account() if os.geteuid() == 0 else None
        # Short, since a Unix socket's path holds at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="nexuspg-"))
        self._data = self.directory / "data"
        self._process: ManagedProcess | None = None
        if self._user is not None:
            os.chown(self.directory, *self._user)
            programs = self._reachable(programs)
        self._programs = programs
        self._environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self._run_initdb()

    def url(self, database: str = "postgres") -> str:
        """Return the DATABASE_URL of a database of this server."""
        return f"postgres://{OWNER}@/{self.directory}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its DATABASE_URL."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "60",
            "shared_buffers": "32MB",
        }
        argv = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        self._process = ManagedProcess(argv, env=self._environment, cwd=self.directory, user=self._user)
        self._process.wait_ready(self.answers, "PostgreSQL takes connections")
        return self

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            psycopg.connect(self._conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def halt(self) -> None:
        """End it at once with all its connections; `start` brings it back with its data."""
        if self._process is not None:
            self._process.stop(signal.SIGQUIT)
            self._process = None

    def stop(self) -> None:
        """End it and remove its directory."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _conninfo(self) -> str:
        return f"host={self.directory} user={OWNER} dbname=postgres"

    def _run_initdb(self) -> None:
        as_user = {} if self._user is None else {"user": self._user[0], "group": self._user[1], "extra_groups": []}
        initdb = [str(self._programs / "initdb"), "-D", str(self._data), "-U", OWNER]
        done = subprocess.run(
            [*initdb, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"],
            env=self._environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            **as_user,  # type: ignore[call-overload]
        )
        if done.returncode:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise AssertionError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _reachable(self, programs: Path) -> Path:
        """Return programs that the other account can run: copies, where a closed directory stands above them."""
        assert self._user is not None
        try:
            subprocess.run(
                [programs / "postgres", "--version"],
                user=self._user[0],
                group=self._user[1],
                extra_groups=[],
                capture_output=True,
                check=True,
            )
        except (PermissionError, subprocess.CalledProcessError):
            copy = self.directory / "postgres"
            shutil.copytree(programs.parent, copy, symlinks=True)
            return copy / "bin"
        return programs


def _other_account() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise unittest.SkipTest("PostgreSQL refuses root, and there is no account `postgres` or `nobody`: make one of them")
