"""What came of the tests: outcomes, durations and the three counts."""

from __future__ import annotations

import time
import unittest
from typing import Any

from tests.support.runner import limits

SLOWEST = 10


class RunResult(unittest.TextTestResult):
    """Shows the progress and keeps what became of each test, also of those that other processes ran.

    Attributes:
        passed: identities of the tests that went well, some of whose clean-up may have failed later.
        durations: seconds and identity of each test that ended.
        interrupting: whether tests that run here have a time-out.
    """

    def __init__(self, stream: Any, descriptions: bool, verbosity: int) -> None:
        super().__init__(stream, descriptions, verbosity)
        self.passed: set[str] = set()
        self.durations: list[tuple[float, str]] = []
        self.interrupting = False
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.perf_counter()
        if self.interrupting:
            limits.start(limits.limit_of(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        if self.interrupting:
            limits.stop()
            self.ended(test, time.perf_counter() - self._began)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.add(test.id())

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.passed.add(test.id())

    def ended(self, test: unittest.TestCase, seconds: float) -> None:
        """Keep how long a test took."""
        self.durations.append((seconds, test.id()))

    def told(self, outcome: str, test: Any, *more: str) -> None:
        """Take an outcome from another process: the name of unittest's method and what it is told, as text."""
        getattr(self, outcome)(test, *more)

    @property
    def interrupted(self) -> bool:
        """Whether somebody ended the run before its end."""
        return self.shouldStop and not self.failfast

    def slowest(self) -> list[str]:
        """Return lines about the slowest tests, those that are worth a look."""
        worst = sorted(self.durations, reverse=True)[:SLOWEST]
        return [f"{seconds:8.2f} s  {name}" for seconds, name in worst]

    def counts(self) -> tuple[int, int, int]:
        """Return how many tests passed, failed and were skipped."""
        failed = {identity(test) for test, _ in [*self.failures, *self.errors]}
        failed |= {identity(test) for test in self.unexpectedSuccesses}
        skipped = {identity(test) for test, _ in self.skipped} - failed
        return len(self.passed - failed - skipped), len(failed), len(skipped)

    def _exc_info_to_string(self, err: Any, test: Any) -> str:
        """Take what another process has written of an error as it is."""
        return err if isinstance(err, str) else super()._exc_info_to_string(err, test)  # type: ignore[misc]


class Told:
    """What another process told of a subtest, or of a class or module whose set-up failed."""

    failureException = None

    def __init__(self, name: str, test_case: unittest.TestCase | None = None) -> None:
        self._name = name
        if test_case is not None:
            self.test_case = test_case

    def id(self) -> str:
        """Its name."""
        return self._name

    def shortDescription(self) -> None:
        """Nothing more than the name."""

    def __str__(self) -> str:
        return self._name


def identity(test: Any) -> str:
    """Return the identity of a test; of a subtest that of the test around it."""
    return str(getattr(test, "test_case", test).id())
