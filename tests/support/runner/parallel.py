"""Several processes that share the tests of a run, class by class.

Django's own pool loses the job of a process that dies and waits for it for ever, and hands over results that cannot
always be pickled. Here the processes are forks, so that both sides have the tests already, and only text goes between
them; a process that dies or hangs costs the test that it ran, and another one goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final
from unittest.util import strclass

from django.db import connections
from django.test.runner import ParallelTestSuite

from tests.support.runner import limits
from tests.support.runner.guardian import kill_marked
from tests.support.runner.results import RunResult, Told
from tests.support.runner.worker import run_worker

GRACE: Final = 2 * limits.AGAIN + 15
"""Seconds after a test's time-out until its process is ended, where interrupting the test did not help."""

LOOK_EVERY: Final = 0.5

_fork = multiprocessing.get_context("fork")


class TestProcess:
    """A process that runs tests, as its parent sees it.

    Attributes:
        number: of its database clones and its directory.
        ready: whether it ever began to work.
        job: what it was given last, as the places of the job and of its first test; None when it is done.
        current: the place of the test that runs; None between tests.
        after: the place of the test after the last one that began.
    """

    def __init__(self, number: int, start: Callable[[int, Connection], Any]) -> None:
        self.number = number
        self.ready = False
        self.job: tuple[int, int] | None = None
        self.current: int | None = None
        self.after = 0
        self.connection, theirs = _fork.Pipe()
        self.process = start(number, theirs)
        theirs.close()  # from here on the end of the process is the end of what can be read
        self.heard()

    def heard(self, allowed: float = limits.DEFAULT) -> None:
        """Take note that something came; the next thing is to come within the allowed seconds and `GRACE`."""
        self.deadline = time.monotonic() + allowed + GRACE

    def give(self, job: tuple[int, int] | None) -> None:
        """Hand it its next job; None lets it end."""
        self.job, self.current, self.after = job, None, job[1] if job else 0
        self.heard()
        try:
            self.connection.send(job)
        except OSError:
            pass  # it has died, which is seen where its results are read

    def end_if_overdue(self) -> None:
        """End the process where nothing came for too long; it writes down where it hangs."""
        if time.monotonic() > self.deadline:
            os.kill(self.process.pid, signal.SIGABRT)
            self.process.join(10)
            self.process.kill()


class SharedSuite(ParallelTestSuite):
    """The tests of a run, cut into jobs that processes of this suite share."""

    scratch: Path
    mark: str
    used_aliases: set[str]
    processes: int
    buffer: bool

    def run(self, result: RunResult) -> RunResult:  # type: ignore[override]
        """Run all jobs, the first ones first.

        Raises:
            RuntimeError: a process could not begin to work.
        """
        self._jobs: list[list[Any]] = [list(suite) for suite in self.subsuites]
        self._waiting = deque((place, 0) for place in range(len(self._jobs)))
        self._result = result
        connections.close_all()  # what a fork inherits must not be used by two
        workers: list[TestProcess] = []
        try:
            workers += [TestProcess(number, self._start) for number in range(1, self.processes + 1)]
            self._share(workers)
        except KeyboardInterrupt:
            result.stop()
        finally:
            for worker in workers:
                self._end(worker)
        return result

    def _start(self, number: int, connection: Connection) -> Any:
        arguments = (number, os.getpid(), connection, self.subsuites, self.used_aliases, self.scratch, self.buffer)
        process = _fork.Process(target=run_worker, args=arguments, name=f"tests-{number}")
        process.start()
        return process

    def _share(self, workers: list[TestProcess]) -> None:
        while workers and not self._result.shouldStop:
            readable = wait([worker.connection for worker in workers], timeout=LOOK_EVERY)
            for worker in [*workers]:
                alive = worker.process.is_alive()
                if worker.connection in readable or worker.connection.poll():
                    try:
                        self._heard(worker, worker.connection.recv())
                    except (EOFError, OSError):
                        alive = False
                    else:
                        continue
                if not alive:
                    workers.remove(worker)
                    workers += self._died(worker)
                else:
                    worker.end_if_overdue()

    def _heard(self, worker: TestProcess, told: tuple[Any, ...]) -> None:
        what, *more = told
        worker.heard()
        if what in ("ready", "done"):
            worker.ready = True
            worker.give(self._waiting.popleft() if self._waiting else None)
            return
        assert worker.job is not None
        tests = self._jobs[worker.job[0]]
        test: Any = tests[more[0]] if isinstance(more[0], int) else Told(more[0])
        if what == "started":
            worker.current, worker.after = more[0], more[0] + 1
            worker.heard(more[1])
            self._result.startTest(test)
        elif what == "ended":
            worker.current = None
            self._result.ended(test, more[1])
            self._result.stopTest(test)
        elif what == "subtest":
            self._result.told(more[2], Told(more[1], test), more[3])
        else:
            self._result.told(what, test, *more[1:])

    def _died(self, worker: TestProcess) -> list[TestProcess]:
        """Record what the end of a process means; return the process that takes its place, if one is needed."""
        self._end(worker)
        if not worker.ready:
            raise RuntimeError(f"a test process could not begin ({_how(worker.process.exitcode)})")
        if worker.job is None:
            return []
        place, tests = worker.job[0], self._jobs[worker.job[0]]
        how = f"the process that ran this test ended: {_how(worker.process.exitcode)}\n{self._crash(worker.number)}"
        if worker.current is not None:
            test = tests[worker.current]
            self._result.told("addError", test, how)
            self._result.stopTest(test)
            if worker.after < len(tests):
                self._waiting.appendleft((place, worker.after))
        else:  # in the set-up of the class or the like, which would end the next process too
            for test in tests[worker.after :]:
                self._result.startTest(test)
                self._result.told("addError", test, how)
                self._result.stopTest(test)
            if worker.after == len(tests):
                name = strclass(type(tests[-1]))
                self._result.told("addError", Told(f"end of {name}"), how)
        return [TestProcess(worker.number, self._start)]

    def _end(self, worker: TestProcess) -> None:
        """End a process and all that it started."""
        if worker.job is None and worker.ready:
            worker.process.join(limits.AGAIN)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        kill_marked(f"{self.mark}{worker.number}/")

    def _crash(self, number: int) -> str:
        try:
            return (self.scratch / f"worker-{number}" / "crash").read_text()
        except OSError:
            return ""


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
