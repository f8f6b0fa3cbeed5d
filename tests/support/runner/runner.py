"""Django's test runner with a last line for machines: `N passed, N failed, N skipped`."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import connections
from django.test.runner import DiscoverRunner
from hypothesis import HealthCheck, settings

from tests.support.garbage import set_aside
from tests.support.runner.guardian import Guardian
from tests.support.runner.limits import TimedSuite
from tests.support.runner.parallel import SharedSuite
from tests.support.runner.results import RunResult
from tests.support.runner.worker import use_state_directory

SLOW = "slow"
"""The tag (`django.test.tag`) of a class that takes long, and of whose kind others would begin before it."""


class CountingRunner(DiscoverRunner):
    """Runs the tests as Django does, then prints the slowest ones and the three counts as the very last line.

    Errors, and tests that were expected to fail and did not, count as failed; expected failures count as passed. A
    test with subtests counts once, as failed where one of them failed. A set-up that fails counts as one failed test,
    and finding nothing to run fails the run. A test that takes too long fails (`time_limit`), and a run that is killed
    leaves no processes.

    SQLite's test database is a file: one in memory locks whole tables between threads, which no real one does.
    """

    test_suite = TimedSuite
    parallel_test_suite = SharedSuite

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if multiprocessing.get_start_method() != "fork":
            self.parallel = 1
        self._result: RunResult | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="nexusadmin-test-")
        self._guardian = Guardian()

    def run_tests(self, test_labels: Sequence[str], **kwargs: Any) -> int:
        """Run the tests and print the counts; return how many failed, at least 1 where nothing ran."""
        broken = 0
        try:
            with self._guardian, _termination_interrupts():
                super().run_tests(list(test_labels), **kwargs)
        except KeyboardInterrupt:
            broken = 1
            print("Interrupted.", file=sys.stderr)
        except Exception:  # whatever it was, the last line must come
            broken = 1
            traceback.print_exc()
        finally:
            self._scratch.cleanup()
        passed, failed, skipped = self._result.counts() if self._result else (0, 0, 0)
        if self._result is not None and self._result.interrupted:
            broken = 1
            print("Interrupted.", file=sys.stderr)
        failed += broken
        if passed + failed + skipped == 0:
            print("No tests were found: name an existing test module, class or method.", file=sys.stderr)
        sys.stderr.flush()
        if self._result is not None and len(self._result.durations) > 1:
            print("The slowest tests:", *self._result.slowest(), sep="\n")
        print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
        return failed or int(passed + skipped == 0)

    def setup_test_environment(self, **kwargs: Any) -> None:
        """Prepare as Django does, in directories of this run, and print only errors of the log.

        LOG_LEVEL asks for more of the log. Loggers stay as they are; only what reaches the terminal changes.
        """
        super().setup_test_environment(**kwargs)
        use_state_directory(Path(self._scratch.name))
        if "LOG_LEVEL" not in os.environ:
            for handler in logging.getLogger().handlers:
                handler.setLevel(logging.ERROR)

    def build_suite(self, test_labels: Sequence[str] | None = None, **kwargs: Any) -> unittest.TestSuite:
        """Find the tests; where several processes run them, those that take long come first."""
        # Which counts where tests are decorated. How long an example takes says more about the machine.
        settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("patient")
        suite = super().build_suite(test_labels, **kwargs)
        if isinstance(suite, SharedSuite):
            suite.scratch, suite.mark = Path(self._scratch.name), self._guardian.mark
            if self.shuffle is False and not self.reverse:
                suite.subsuites = slow_ones_first(suite.subsuites, self.reorder_by)
        return suite

    def setup_databases(self, **kwargs: Any) -> Any:
        """Make the test databases, SQLite's in a directory of this run, and a clone of each for each process."""
        for alias in connections:
            connection = connections[alias]
            if connection.vendor == "sqlite" and not connection.settings_dict["TEST"].get("NAME"):
                connection.settings_dict["TEST"]["NAME"] = str(Path(self._scratch.name) / f"{alias}.sqlite3")
        processes, self.parallel = self.parallel, 1
        try:
            made = super().setup_databases(**kwargs)
        finally:
            self.parallel = processes
        if processes > 1:
            for alias in kwargs["aliases"]:
                self._clone(alias)
        return made

    def _clone(self, alias: str) -> None:
        connection = connections[alias]
        if connection.vendor == "sqlite":  # whose clones are copies of the file: all must be in it
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        for number in range(1, self.parallel + 1):
            connection.creation.clone_test_db(str(number), verbosity=self.verbosity, keepdb=self.keepdb)

    def get_resultclass(self) -> Any:
        """Return what makes the result, which is kept for the counts, however the run ends."""
        special = super().get_resultclass()  # with --debug-sql or --pdb
        kind: Any = RunResult if special is None else type(special.__name__, (special, RunResult), {})

        def make(*args: Any, **kwargs: Any) -> RunResult:
            result: RunResult = kind(*args, **kwargs)
            result.interrupting = self.parallel <= 1 and not self.pdb
            self._result = result
            return result

        return make

    def run_suite(self, suite: unittest.TestSuite, **kwargs: Any) -> Any:
        """Run the suite; an interrupted one has a result too."""
        set_aside()
        try:
            return super().run_suite(suite, **kwargs)
        except KeyboardInterrupt:
            if self._result is None:
                raise
            self._result.stop()
            self._result.printErrors()
            return self._result


def slow_ones_first(
    suites: list[unittest.TestSuite], kinds: tuple[type[unittest.TestCase], ...]
) -> list[unittest.TestSuite]:
    """Order classes so that none which takes long begins when the others are nearly done.

    Django's order of kinds stays: a `TestCase` counts on rows that a `TransactionTestCase` removes. Within a kind those
    that are tagged as slow come first, then those of many tests.

    Args:
        suites: each with the tests of one class.
        kinds: in their order; of others the tests come last.
    """

    def place(suite: unittest.TestSuite) -> tuple[int, bool, int]:
        tests: Any = list(suite)
        kind = next((number for number, kind in enumerate(kinds) if isinstance(tests[0], kind)), len(kinds))
        return kind, SLOW not in getattr(tests[0], "tags", ()), -len(tests)

    return sorted(suites, key=place)


@contextlib.contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM end the run as an interrupt does, so that databases and processes go too."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
