"""A test run of its own, in a process, with tests that a test writes down."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from django.test import SimpleTestCase

from tests.support.processes import ROOT, ManagedProcess, child_environment


class NestedRunTestCase(SimpleTestCase):
    """Runs `manage.py test` on what `write` has written.

    Attributes:
        directory: where the tests are; a new one for each test.
    """

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, source: str, name: str = "test_sample.py") -> None:
        """Write a module of tests."""
        (self.directory / name).write_text(textwrap.dedent(source))

    def run_tests(self, *arguments: str, pattern: str = "test_sample.py", **variables: str) -> tuple[int, str, str]:
        """Run to the end; return the exit code, the last line and the whole output."""
        done = subprocess.run(
            self._argv(pattern, arguments),
            cwd=ROOT,
            env=self._environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        return done.returncode, done.stdout.rstrip("\n").rsplit("\n", 1)[-1], done.stdout

    def start_tests(self, *arguments: str) -> ManagedProcess:
        """Start a run that goes on while the test does."""
        process = ManagedProcess(self._argv("test_sample.py", arguments), env=self._environment({}))
        self.addCleanup(process.kill)
        return process

    def _argv(self, pattern: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "manage.py", "test", "--pattern", pattern, *arguments]

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        variables.setdefault("DATABASE_URL", f"sqlite:///{self.directory}/unused.sqlite3")
        return child_environment(**variables)
