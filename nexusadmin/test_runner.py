"""Django's test runner with a last line for machines: `N passed, N failed, N skipped`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import connections
from django.test.runner import DiscoverRunner


class CountingRunner(DiscoverRunner):
    """Runs the tests as Django does, then prints the three counts as the very last line.

    Errors, and tests that were expected to fail and did not, count as failed; expected failures count as passed. A
    test with subtests counts once, as failed where one of them failed. A set-up that fails counts as one failed test,
    and finding nothing to run fails the run.

    SQLite's test database is a file: one in memory locks whole tables between threads, which no real one does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._result: unittest.TestResult | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="nexusadmin-test-")

    def run_tests(self, test_labels: Sequence[str], **kwargs: Any) -> int:
        """Run the tests and print the counts; return how many failed, at least 1 where nothing ran."""
        broken = 0
        try:
            super().run_tests(list(test_labels), **kwargs)
        except KeyboardInterrupt:
            broken = 1
            print("Interrupted.", file=sys.stderr)
        except Exception:  # whatever it was, the last line must come
            broken = 1
            traceback.print_exc()
        finally:
            self._scratch.cleanup()
        passed, failed, skipped = counts(self._result)
        failed += broken
        if passed + failed + skipped == 0:
            print("No tests were found: name an existing test module, class or method.", file=sys.stderr)
        sys.stderr.flush()
        print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
        return failed or int(passed + skipped == 0)

    def setup_test_environment(self, **kwargs: Any) -> None:
        """Prepare as Django does, and print only errors of the log, unless LOG_LEVEL asks for more.

        Loggers stay as they are; only what reaches the terminal changes.
        """
        super().setup_test_environment(**kwargs)
        if "LOG_LEVEL" not in os.environ:
            for handler in logging.getLogger().handlers:
                handler.setLevel(logging.ERROR)

    def setup_databases(self, **kwargs: Any) -> Any:
        """Make the test databases, SQLite's in a directory of this run."""
        for alias in connections:
            connection = connections[alias]
            if connection.vendor == "sqlite" and not connection.settings_dict["TEST"].get("NAME"):
                connection.settings_dict["TEST"]["NAME"] = str(Path(self._scratch.name) / f"{alias}.sqlite3")
        return super().setup_databases(**kwargs)

    def run_suite(self, suite: unittest.TestSuite, **kwargs: Any) -> Any:
        """Run the suite and keep its result for the counts."""
        self._result = super().run_suite(suite, **kwargs)
        return self._result


def counts(result: unittest.TestResult | None) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped."""
    if result is None:
        return 0, 0, 0
    failed = {_test_id(test) for test, _ in [*result.failures, *result.errors]}
    failed |= {_test_id(test) for test in result.unexpectedSuccesses}
    skipped = {_test_id(test) for test, _ in result.skipped} - failed
    # A class or module whose set-up failed or was skipped has no test that ran.
    ran = [(ident, real) for ident, real in failed | skipped if real]
    return result.testsRun - len(ran), len(failed), len(skipped)


def _test_id(test: Any) -> tuple[str, bool]:
    """Return the identity of a test (for a subtest that of the test around it), and whether it is a test at all."""
    test = getattr(test, "test_case", test)
    return str(test.id()), isinstance(test, unittest.TestCase)
