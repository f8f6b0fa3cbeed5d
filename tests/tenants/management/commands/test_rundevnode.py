import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from unittest import mock

from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import SimpleTestCase

from relay.devnode import NodeDialect, serve
from tenants.management.commands.rundevnode import DEFAULT_HUB_PORT, DIALECTS, SECRET_FILE_VARIABLE, SECRET_VARIABLE
from tests.support.ports import free_port, is_listening
from tests.support.processes import ManagedProcess, child_environment

SECRET = "command-secret-command-secret-32"


class RunDevNodeTests(SimpleTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def start(self, *arguments: str) -> ManagedProcess:
        (self.directory / "secret").write_text(SECRET + "\n")
        process = ManagedProcess(
            [
                *(sys.executable, "manage.py", "rundevnode"),
                *("--secret-file", str(self.directory / "secret")),
                *("--certificate-directory", str(self.directory / "node")),
                *arguments,
            ],
            env=child_environment(),
        )
        self.addCleanup(process.kill)
        return process

    def test_one_line_when_ready_and_a_clean_end(self) -> None:
        hub, http, tls = free_port(), free_port(), free_port()
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("--hub-port", str(hub), "--http", f"80:{http}", "--tls", str(tls))
            process.wait_ready(lambda: "\n" in process.output(), "the line that says it is ready")  # noqa: B023
            self.assertEqual(
                process.output().splitlines(),
                [
                    f"development node (attested) at wss://127.0.0.1:{hub}/connect, http {http} (as 80), tls {tls}, "
                    f"CA file {self.directory / 'node' / 'ca.pem'}"
                ],
            )
            self.assertTrue(is_listening(http))
            self.assertEqual(process.stop(number), 0, process.output())
            self.assertEqual(len(process.output().splitlines()), 1)

    def test_a_taken_port_is_named_with_its_option(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            process = self.start("--hub-port", str(port))
            self.assertEqual(process.wait(), 1)
        self.assertIn(str(port), process.output())
        self.assertIn("--hub-port", process.output())
        self.assertNotIn("Traceback", process.output())

    def test_a_secret_is_needed(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop(SECRET_VARIABLE, None)
            os.environ.pop(SECRET_FILE_VARIABLE, None)
            with self.assertRaisesRegex(CommandError, "--secret-file"):
                call_command("rundevnode")
            (self.directory / "empty").touch()
            with self.assertRaisesRegex(CommandError, "is empty"):
                call_command("rundevnode", secret_file=self.directory / "empty")
            with self.assertRaisesRegex(CommandError, "missing: No such file"):
                call_command("rundevnode", secret_file=self.directory / "missing")

    def test_a_wrong_port(self) -> None:
        with mock.patch.dict(os.environ, {SECRET_VARIABLE: SECRET}):
            with self.assertRaisesRegex(CommandError, "--http 'x' is no port"):
                call_command("rundevnode", "--http", "x")

    def test_the_defaults_are_the_nodes_own(self) -> None:
        self.assertEqual(DIALECTS, tuple(NodeDialect))
        self.assertEqual(DIALECTS[0], NodeDialect.ATTESTED)
        self.assertEqual(DEFAULT_HUB_PORT, serve.DEFAULT_HUB_PORT)
