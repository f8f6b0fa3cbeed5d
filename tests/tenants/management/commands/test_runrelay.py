import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path
from unittest import mock

from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import SimpleTestCase

from relay.limits.quota import ProcessBounds
from relay.relay import DRAIN
from relay.timings import Timings
from tenants.bridge import follower, reporter
from tenants.management.commands import runrelay
from tests.support.processes import ROOT, child_environment


class RunRelayTests(SimpleTestCase):
    def check(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "runrelay", "--check"],
            cwd=ROOT,
            env=child_environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_a_database_that_can_not_be_used_is_one_message(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for url, problem in (
                (f"sqlite:///{Path(directory) / 'empty.sqlite3'}", "no such table"),
                ("postgres://user:hidden@127.0.0.1:1/registry", "refused"),
            ):
                done = self.check(DATABASE_URL=url)
                self.assertEqual(done.returncode, 1)
                self.assertIn("The database cannot be used", done.stderr)
                self.assertIn(problem, done.stderr)
                self.assertNotIn("Traceback", done.stderr)
                self.assertNotIn("hidden", done.stderr)

    def test_numbers_of_processes_and_bounds(self) -> None:
        for option, value in (
            ("--workers", "0"),
            ("--workers", "x"),
            ("--max-streams", "-1"),
            ("--max-buffered", "-1"),
        ):
            with self.assertRaisesRegex(CommandError, f"{option} {value} is not a number of"):
                call_command("runrelay", "--check", f"{option}={value}")

    def test_times(self) -> None:
        for option in ("--drain", "--poll-interval"):
            for value in ("-1", "nan", "inf"):
                with self.assertRaisesRegex(CommandError, f"{option} {value} is not a time"):
                    call_command("runrelay", "--check", f"{option}={value}")

    def test_the_defaults_are_the_relays_own(self) -> None:
        self.assertEqual(runrelay.DEFAULT_DRAIN, DRAIN)
        self.assertEqual(runrelay.DEFAULT_MAX_BUFFERED * 2**20, ProcessBounds().max_buffered)
        self.assertEqual(runrelay.DEFAULT_POLL_INTERVAL, follower.DEFAULT_POLL_INTERVAL)
        self.assertEqual(runrelay.DEFAULT_REPORT_INTERVAL, reporter.DEFAULT_INTERVAL)

    def test_what_the_settings_say_reaches_the_relay(self) -> None:
        with (
            self.settings(TCP_KEEPALIVE_SECONDS=7, NODE_PROXY="direct"),
            mock.patch("relay.relay.Relay") as relay,
            mock.patch("tenants.management.commands.runrelay.Command._read"),
            mock.patch("relay.plan.describe", return_value=""),
        ):
            call_command("runrelay", "--check", stdout=StringIO())
        self.assertEqual(relay.call_args.kwargs["timings"].keepalive, 7)
        self.assertEqual(relay.call_args.kwargs["node_proxy"], "direct")
        self.assertEqual(Timings().keepalive, 15)
