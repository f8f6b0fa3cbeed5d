"""One of several processes that run tests: takes jobs, tells what becomes of each test."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import signal
import time
import unittest
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections

from tests.support.garbage import set_aside
from tests.support.runner import limits
from tests.support.runner.guardian import mark_process

PR_SET_PDEATHSIG = 1


class TellingResult(unittest.TestResult):
    """Tells everything to the process that counts, as text: any exception can be told, whatever it holds.

    Tests are told as places in the job's list, which both processes have; other things by their names.
    """

    def __init__(self, connection: Connection, tests: Sequence[unittest.TestCase], first: int) -> None:
        super().__init__()
        self._connection = connection
        self._places = {id(test): place for place, test in enumerate(tests, start=first)}
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.perf_counter()
        seconds = limits.limit_of(test)
        self._tell("started", test, seconds)
        limits.start(seconds)

    def stopTest(self, test: unittest.TestCase) -> None:
        limits.stop()
        self._tell("ended", test, time.perf_counter() - self._began)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._tell("addSuccess", test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._tell("addError", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._tell("addFailure", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._tell("addSkip", test, str(reason))

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._tell("addExpectedFailure", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._tell("addUnexpectedSuccess", test)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is None:
            return
        outcome = "addFailure" if issubclass(err[0], test.failureException) else "addError"
        text = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        self._connection.send(("subtest", self._places[id(test)], str(subtest), outcome, text))

    def _tell(self, what: str, test: Any, *more: object) -> None:
        # What is no test of the job stands for a class or module: its set-up failed or was skipped.
        self._connection.send((what, self._places.get(id(test), str(test.id())), *more))


def run_worker(
    number: int,
    parent: int,
    connection: Connection,
    jobs: Sequence[unittest.TestSuite],
    aliases: Iterable[str],
    scratch: Path,
    buffer: bool,
) -> None:
    """Run jobs as they come, until None comes.

    Args:
        number: of this worker, which has the database clones of this number; from 1.
        parent: process id of the process that counts.
        connection: to it. Jobs come as the place in ``jobs`` and the place of the job's first test to run.
        aliases: of the databases that the tests use.
        scratch: a directory of the run; this worker's files are below it.
        buffer: whether to hide what tests print.
    """
    _become_worker(number, parent, scratch)
    for alias in aliases:
        connections[alias].creation.setup_worker_connection(number)
    set_aside()
    connection.send(("ready",))
    while (job := connection.recv()) is not None:
        place, first = job
        suite = jobs[place]
        tests = list(suite)[first:]  # type: ignore[call-overload]
        result = TellingResult(connection, tests, first)
        result.buffer = buffer
        type(suite)(tests).run(result)
        del tests, result
        set_aside()
        connection.send(("done",))


def _become_worker(number: int, parent: int, scratch: Path) -> None:
    """Part this process from its parent: signals, end, environment, directories, random numbers."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The terminal's interrupt goes to all; the parent ends the workers. Not SIG_IGN, which children would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(1)
    mark_process(f"{number}")
    state = scratch / f"worker-{number}"
    state.mkdir(exist_ok=True)
    faulthandler.enable((state / "crash").open("w"))
    use_state_directory(state)
    random.seed()


def use_state_directory(path: Path) -> None:
    """Let this process and those that it starts keep their files below a directory."""
    for name in ("STATE_DIR", "STATIC_ROOT"):
        directory = path / name.lower()
        setattr(settings, name, directory)
        os.environ[name] = str(directory)
