import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from django.test import SimpleTestCase, tag

from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ManagedProcess, child_environment
from tests.support.waiting import wait_until

PORTS = (
    "WEB_PORT",
    "NODE_HUB_PORT",
    "NODE_HTTP_PORT",
    "NODE_TLS_PORT",
    "DEMO_BLUE_HTTP_PORT",
    "DEMO_BLUE_TLS_PORT",
    "DEMO_GREEN_HTTP_PORT",
    "DEMO_GREEN_TLS_PORT",
)
UP = "Everything is up."
END = "Ctrl-C stops everything."


@tag("slow")
class QuickstartTests(SimpleTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = Path(directory.name) / "state dir"
        self.ports = {name: str(free_port()) for name in PORTS}

    def environment(self):
        return child_environment(
            **self.ports,
            STATE_DIR=str(self.state),
            DATABASE_URL=None,
            SECRET_KEY=None,
            FIELD_ENCRYPTION_KEYS=None,
        )

    def start(self):
        process = ManagedProcess([sys.executable, "manage.py", "quickstart"], env=self.environment())
        self.addCleanup(process.kill)
        process.wait_ready(lambda: END in process.output(), "quickstart says what to open", timeout=90)
        self.assertIn(UP, process.output())
        return process

    def stop(self, process):
        process.send(signal.SIGINT)
        self.assertEqual(process.wait(), 0, process.output())
        self.assertNotIn("Traceback", process.output())
        for port in self.ports.values():
            self.assertFalse(is_listening(int(port)))

    def manage(self, *arguments):
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment(), capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def curl(self, line):
        done = subprocess.run(
            ["curl", "--noproxy", "*", "--silent", "--show-error", "--max-time", "20", *shlex.split(line)[1:]],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def curl_lines(self, process):
        lines = re.findall(r"^ +(curl .*)$", process.output(), re.MULTILINE)
        self.assertEqual(len(lines), 2)
        return lines

    @unittest.skipUnless(shutil.which("curl"), "curl is not on this machine: apt-get install curl")
    def test_from_nothing_to_traffic_and_again(self):
        first = self.start()
        password = re.search(r"Password: +(\S+)", first.output())
        self.assertIsNotNone(password)
        plain, secured = self.curl_lines(first)
        self.assertIn("target: blue\n", self.curl(plain))
        answer = self.curl(secured)
        self.assertIn("target: blue\n", answer)
        self.assertIn("tls: yes, server name app.example.test\n", answer)

        green = f"127.0.0.1:{self.ports['DEMO_GREEN_HTTP_PORT']}"
        self.manage(
            "shell",
            "-c",
            "from tenants.models import PortMapping; "
            f"row = PortMapping.objects.get(public_port=80); row.default_target = {green!r}; row.save()",
        )
        wait_until(lambda: "target: green\n" in self.curl(plain), "the edited target answers")
        self.assertEqual(first.output().count("session up"), 1)
        self.stop(first)

        keys = {
            path: path.read_bytes() for path in self.state.rglob("*") if path.suffix == ".pem" or "key" in path.name
        }
        self.assertGreaterEqual(len(keys), 6)
        for name in ("NODE_HUB_PORT", "DEMO_BLUE_TLS_PORT", "NODE_TLS_PORT"):
            self.ports[name] = str(free_port())
        second = self.start()
        self.assertNotIn(password[1], second.output())
        self.assertIn("User:      admin (there already", second.output())
        plain, secured = self.curl_lines(second)
        self.assertIn("target: green\n", self.curl(plain), "the edit outlives a restart")
        self.assertIn(f"port: {self.ports['DEMO_BLUE_TLS_PORT']}\n", self.curl(secured), "a moved port is followed")
        self.stop(second)

        self.manage("shell", "-c", "from tenants.models import Backend; Backend.objects.update(enabled=False)")
        third = ManagedProcess([sys.executable, "manage.py", "quickstart"], env=self.environment())
        self.addCleanup(third.kill)
        third.wait_ready(lambda: "User:      admin (there" in third.output(), "the admin's address is told", timeout=40)
        self.assertIn(f"http://localhost:{self.ports['WEB_PORT']}/admin/", third.output())
        self.assertNotIn(END, third.output(), "what waits for the backend is told later")
        self.stop(third)
        self.assertEqual(keys, {path: path.read_bytes() for path in keys})

        found = [path for path in self.state.rglob("*") if path.is_file() and password[1].encode() in path.read_bytes()]
        self.assertEqual(found, [], "the password is kept nowhere")

    def test_taken_and_doubled_ports_are_named_with_their_setting(self):
        self.ports["DEMO_BLUE_TLS_PORT"] = self.ports["DEMO_BLUE_HTTP_PORT"]
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", int(self.ports["NODE_TLS_PORT"])))
            holder.listen(1)
            process = ManagedProcess([sys.executable, "manage.py", "quickstart"], env=self.environment())
            self.assertEqual(process.wait(), 1)
        output = process.output()
        self.assertIn(f"Port {self.ports['NODE_TLS_PORT']} on 127.0.0.1", output)
        self.assertIn("is taken: stop what listens there, or choose another: make run NODE_TLS_PORT=", output)
        self.assertIn("DEMO_BLUE_HTTP_PORT and DEMO_BLUE_TLS_PORT are both", output)
        self.assertNotIn("Traceback", output)
        self.assertFalse((self.state / "nexusadmin.sqlite3").exists(), "nothing was begun")

    def test_one_process_that_ends_ends_all_and_is_an_error(self):
        process = self.start()
        pid = re.search(r"green started \(pid=(\d+)\)", process.output())
        os.kill(int(pid[1]), signal.SIGKILL)
        self.assertNotEqual(process.wait(), 0)
        self.assertIn("one of the processes ended by itself", process.output())
        self.assertFalse(is_listening(int(self.ports["WEB_PORT"])))

    def test_refuses_to_be_a_production_server(self):
        environment = {**self.environment(), "DEBUG": "off", "ALLOWED_HOSTS": "x", "DATABASE_URL": "sqlite:////x/y"}
        environment |= {key: child_environment()[key] for key in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS")}
        process = ManagedProcess([sys.executable, "manage.py", "quickstart"], env=environment)
        self.assertEqual(process.wait(), 1, process.output())

    def test_ctrl_c_on_a_terminal_ends_make_without_an_error(self):
        makefile = self.state.parent / "Makefile"
        makefile.write_text(f"run:\n\t@cd {shlex.quote(str(ROOT))} && exec {sys.executable} manage.py quickstart\n")
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(makefile.parent)
            os.execvpe("make", ["make", "--no-print-directory", "run"], self.environment())
        self.addCleanup(os.close, terminal)
        output = self.read_until(terminal, END.encode())
        os.write(terminal, b"\x03")
        output += self.read_until(terminal, None)
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0, output)
        self.assertNotIn("Traceback", output)
        self.assertIn("Stopped.", output)

    def read_until(self, terminal, mark):
        """Return what the terminal shows up to `mark`, or with None up to the end."""
        output = b""
        deadline = time.monotonic() + 90
        while mark is None or mark not in output:
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, output)
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # Linux: the other side is closed
                chunk = b""
            if not chunk:
                self.assertIsNone(mark, output)
                break
            output += chunk
        return output.decode("utf-8", "replace")
