"""Processes that a test starts, watches and stops."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.runner.guardian import MARK
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent

_running: weakref.WeakSet[ManagedProcess] = weakref.WeakSet()


class ManagedProcess:
    """A child process in a process group of its own, whose output goes to a file.

    Args:
        argv: the program and its arguments.
        env: the whole environment; by default `child_environment()`.
        cwd: where it runs; by default the project's root.
        user: the account that it runs as (root only); None for this one.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        user: tuple[int, int] | None = None,
    ) -> None:
        self.argv = [os.fspath(part) for part in argv]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process object)
        as_user = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
        self._process = subprocess.Popen(
            self.argv,
            env=dict(child_environment() if env is None else env) | _mark(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_user,  # type: ignore[call-overload]
        )
        _running.add(self)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return everything it has printed so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    def wait_ready(self, ready: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Return when `ready()` is true.

        Raises:
            AssertionError: the process ended before, or `timeout` seconds went by; with the end of its output.
        """
        try:
            wait_until(lambda: self.returncode is not None or ready(), what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-3000:]}") from None
        if self.returncode is not None:
            raise AssertionError(f"{what}: {self.argv[0]} ended with {self.returncode}\n{self.output()[-3000:]}")

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end; return the exit code.

        Raises:
            AssertionError: it still runs after `timeout` seconds.
        """
        wait_until(lambda: self.returncode is not None, f"the end of {self.argv[0]}", timeout)
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, if it still runs."""
        if self.returncode is None:
            self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int:
        """End the process and all that it started; return its exit code. Harmless when it has ended."""
        self.send(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _running.discard(self)
        return self._process.wait()

    def kill(self) -> None:
        """End it and all that it started at once, as a crash would."""
        self.stop(signal.SIGKILL)


def child_environment(**overrides: str | None) -> dict[str, str]:
    """Return the environment of a child that uses the same database, keys and Python as this test.

    Inside Django tests the child gets the test database. `overrides` come last; None removes a variable.
    """
    environment = dict(os.environ)
    for name in ("DATABASE_URL_FILE", "REDIS_URL_FILE", "SECRET_KEY_FILE", "FIELD_ENCRYPTION_KEYS_FILE", "REDIS_URL"):
        environment.pop(name, None)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    environment.update(_django_environment())
    for name, value in overrides.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def _mark() -> dict[str, str]:
    """Return what makes a process one of this test run, so that it ends with it."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}


def _django_environment() -> dict[str, str]:
    from django.conf import settings

    if not settings.configured:
        return {}
    from tests.support.databases import database_url

    return {
        "DJANGO_SETTINGS_MODULE": "nexusadmin.settings",
        "DEBUG": "on",
        "DATABASE_URL": database_url(),
        "SECRET_KEY": settings.SECRET_KEY,
        "FIELD_ENCRYPTION_KEYS": ",".join(settings.FIELD_ENCRYPTION_KEYS),
        "STATE_DIR": str(settings.STATE_DIR),
    }


def _stop_all() -> None:
    for process in list(_running):
        process.kill()


atexit.register(_stop_all)
