"""Tests of the command rundemotarget as a developer runs it."""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
from pathlib import Path

from django.core.management import CommandError, call_command
from django.test import SimpleTestCase

from tests.support.ports import free_port, is_listening
from tests.support.processes import ManagedProcess, child_environment


class RunDemoTargetTests(SimpleTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_one_line_when_ready_and_a_clean_end(self) -> None:
        http, tls = free_port(), free_port()
        process = ManagedProcess(
            [
                *(sys.executable, "manage.py", "rundemotarget", "--name", "shop"),
                *("--http-port", str(http), "--tls-port", str(tls), "--certificate-directory", str(self.directory)),
            ],
            env=child_environment(),
        )
        self.addCleanup(process.kill)
        process.wait_ready(lambda: "\n" in process.output(), "the line that says it is ready")
        self.assertIn(f"demo target shop: HTTP {http}, HTTPS {tls}, CA file {self.directory}", process.output())
        self.assertTrue(is_listening(http))
        self.assertEqual(process.stop(signal.SIGTERM), 0, process.output())

    def test_a_taken_port_is_one_message(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaisesRegex(CommandError, "demo target demo: .*[Aa]ddress already in use"):
                call_command("rundemotarget", http_port=port, tls_port=0, certificate_directory=self.directory)
