"""A real PostgreSQL server on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import LiteralString, Self

import psycopg
from psycopg import sql

from tests.support.processes import ManagedProcess
from tests.support.programs import find_postgres_programs, require

OWNER = "nexusadmin"


class PostgresServer:
    """A PostgreSQL cluster in a directory of its own, without durability; it can be stopped and started again.

    As root it runs as the account `postgres` or `nobody`, since PostgreSQL refuses root.

    Args:
        data: the data directory of a server that was closed, to begin with a copy of; by default an empty cluster.

    Raises:
        unittest.SkipTest: there is no PostgreSQL on this machine.
    """

    def __init__(self, data: Path | None = None) -> None:
        self._installation = _installation()
        self.directory = self._installation.make_directory()
        self.data = self.directory / "data"
        self._process: ManagedProcess | None = None
        self._installation.copy(data or _empty_cluster(), self.data)

    def url(self, database: str = "postgres") -> str:
        """Return the DATABASE_URL of a database of this server."""
        return f"postgres://{OWNER}@/{self.directory}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database as a copy of another one, by default an empty one, and return its DATABASE_URL."""
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whether it is used or not."""
        self._execute("DROP DATABASE {} WITH (FORCE)", name)

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
        argv = [str(self._installation.programs / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        self._process = ManagedProcess(argv, env=_environment(), cwd=self.directory, user=self._installation.user)
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

    def close(self) -> None:
        """End it in order, so that its data directory can be copied."""
        if self._process is not None:
            self._process.stop(signal.SIGINT)
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

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def at_exit(work: Callable[[], object]) -> None:
    """Do some work when this process ends in order, also one that was forked to run tests."""
    Finalize(None, work, exitpriority=1)


@dataclass(frozen=True)
class _Installation:
    """PostgreSQL's programs and the account that they run as (user and group; None for this one)."""

    programs: Path
    user: tuple[int, int] | None

    def make_directory(self) -> Path:
        """Return a new directory of that account's; its name is short, since a Unix socket's path holds 107 bytes."""
        directory = Path(tempfile.mkdtemp(prefix="nexuspg-"))
        if self.user is not None:
            os.chown(directory, *self.user)
        return directory

    def copy(self, source: Path, target: Path) -> None:
        """Copy a data directory for that account, with the modes that PostgreSQL insists on."""
        shutil.copytree(source, target, symlinks=True)
        if self.user is not None:
            for folder, _, files in os.walk(target):
                for path in (folder, *(os.path.join(folder, name) for name in files)):
                    os.chown(path, *self.user)

    def run(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as that account."""
        as_user = {} if self.user is None else {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        return subprocess.run(
            [str(self.programs / program), *arguments],
            env=_environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            **as_user,  # type: ignore[call-overload]
        )


@cache
def _installation() -> _Installation:
    """Find the programs; copy them, where the account that is to run them cannot reach them."""
    programs = require(find_postgres_programs(), "PostgreSQL")
    found = _Installation(programs, _other_account() if os.geteuid() == 0 else None)
    if found.user is None:
        return found
    directory = found.make_directory()
    at_exit(lambda: shutil.rmtree(directory, ignore_errors=True))
    try:
        if found.run("postgres", "--version", cwd=directory).returncode == 0:
            return found
    except PermissionError:
        pass
    copy = directory / "postgres"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return _Installation(copy / "bin", found.user)


@cache
def _empty_cluster() -> Path:
    """Return the data directory of a new cluster, made once a process: a copy takes a twentieth of the time."""
    installation = _installation()
    directory = installation.make_directory()
    at_exit(lambda: shutil.rmtree(directory, ignore_errors=True))
    data = directory / "data"
    options = ("-U", OWNER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    done = installation.run("initdb", "-D", str(data), *options, cwd=directory)
    if done.returncode:
        raise AssertionError(f"initdb failed:\n{done.stdout}{done.stderr}")
    return data


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _other_account() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise unittest.SkipTest("PostgreSQL refuses root, and there is no account `postgres` or `nobody`: make one of them")
