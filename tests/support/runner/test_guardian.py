"""Tests of tests.support.runner.guardian: a run that is ended leaves no processes."""

import os
import signal
from functools import partial
from pathlib import Path

from tests.support.runner.nested import NestedRunTestCase
from tests.support.waiting import wait_until

SAMPLE = """
    import os, subprocess, sys, threading
    from pathlib import Path
    from django.test import SimpleTestCase
    from tests.support.processes import ManagedProcess

    CHILD = "import subprocess, sys; subprocess.run(['sleep', '600'], start_new_session=True)"

    class Starting(SimpleTestCase):
        def test_starts(self):
            process = ManagedProcess([sys.executable, "-c", CHILD])
            bare = ManagedProcess(["sleep", "600"], env={{"PATH": os.environ["PATH"]}})
            place = Path("{place}") / type(self).__name__
            place.with_suffix(".new").write_text(f"{{os.getpid()}} {{process.pid}} {{bare.pid}}")
            place.with_suffix(".new").rename(place)
            threading.Event().wait()

    class StartingToo(Starting):
        pass
"""


def runs(pid: int) -> bool:
    """Return whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class EndedRunTests(NestedRunTestCase):
    def end(self, number: signal.Signals, processes: str) -> str:
        self.write(SAMPLE.format(place=self.directory))
        run = self.start_tests(str(self.directory), "--parallel", processes)
        places = [self.directory / name for name in ("Starting", "StartingToo")[: int(processes)]]
        run.wait_ready(lambda: all(place.exists() for place in places), "the tests wait", 60)
        pids = [int(pid) for place in places for pid in place.read_text().split()]
        for place in places:
            managed = int(place.read_text().split()[1])
            wait_until(partial(children, managed), "it has started a process")
            pids += children(managed)
        self.assertTrue(all(runs(pid) for pid in pids))
        os.kill(run.pid, number)  # and nothing else in its group
        run.wait(60)
        wait_until(lambda: not any(runs(pid) for pid in pids), f"no process is left after {number.name}", 30)
        for place in places:
            place.unlink()
        return run.output()

    def test_killed(self) -> None:
        for processes in ("1", "2"):
            with self.subTest(processes=processes):
                self.end(signal.SIGKILL, processes)

    def test_terminated_or_interrupted(self) -> None:
        for number, processes in ((signal.SIGTERM, "1"), (signal.SIGINT, "2")):
            with self.subTest(signal=number.name):
                self.assertRegex(self.end(number, processes), r"Interrupted\.\n0 passed, 1 failed, 0 skipped\n$")
