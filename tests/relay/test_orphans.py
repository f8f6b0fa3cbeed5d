"""Tests of relay.orphans, in a process that takes orphans as the first one of a container does."""

import subprocess
import sys
from unittest import TestCase

from tests.support.processes import ROOT

PROGRAM = """
import ctypes, os, subprocess, time
from relay.orphans import OrphanReaper, is_init, zombie_children

assert not is_init()
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
own = subprocess.Popen(["true"])
left = subprocess.Popen(["sh", "-c", "(sleep 0.1; exit 3) & echo $!"], stdout=subprocess.PIPE, text=True)
orphan = int(left.stdout.readline())
left.wait()
reaper = OrphanReaper()
while not {orphan, own.pid} <= zombie_children():
    time.sleep(0.01)
assert reaper.look() == set(), "not at the first look"
assert own.wait() == 0, "who waits for a child has its status"
assert reaper.look() == {orphan}
assert reaper.look() == zombie_children() == set()
"""


class OrphanTests(TestCase):
    def test_what_others_left_behind_is_reaped(self) -> None:
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
