"""The web process: what it needs to start, and what it serves."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.test import SimpleTestCase

from tests.nexusadmin.test_settings import GOOD
from tests.support.ports import free_port, is_listening
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, ManagedProcess, child_environment
from tests.support.registry import migrated_copy

TOKEN = "a-token-that-lets-anybody-in-0123456789-abc"


class ProductionServerTests(SimpleTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.port = free_port()
        self.environment = child_environment(
            **{**GOOD, "STATIC_ROOT": str(self.directory / "static"), "PUBLIC_URL": "https://admin.example.com"}
        )

    def serve(self):
        argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(self.port)]
        process = ManagedProcess([*argv, "--lifespan", "off"], env=self.environment)
        self.addCleanup(process.kill)
        return process

    def get(self, path, *options):
        done = subprocess.run(
            [
                "curl",
                "-si",
                "--noproxy",
                "*",
                "-H",
                "Host: admin.example.com",
                *options,
                f"http://127.0.0.1:{self.port}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout

    def test_without_static_files_it_names_the_command(self):
        process = self.serve()
        self.assertNotEqual(process.wait(), 0)
        self.assertIn("manage.py collectstatic", process.output())

    def test_serves_behind_a_proxy_and_notices_the_database(self):
        with PostgresServer() as server:
            self.environment["DATABASE_URL"] = server.create_database("registry")
            for command in (
                ["collectstatic", "--noinput"],
                ["migrate", "--noinput"],
                ["check", "--deploy", "--fail-level=WARNING"],
            ):
                done = subprocess.run(
                    [sys.executable, "manage.py", *command],
                    cwd=ROOT,
                    env=self.environment,
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(done.returncode, 0, done.stderr)
            process = self.serve()
            process.wait_ready(lambda: is_listening(self.port), "uvicorn listens")
            self.assertIn("301 Moved Permanently", self.get("/admin/login/"))
            page = self.get("/admin/login/", "-H", "X-Forwarded-Proto: https")
            self.assertIn("200 OK", page)
            for header in ("strict-transport-security: max-age=31536000", "x-frame-options: deny", "; secure"):
                self.assertIn(header, page.lower())
            style = page.split('href="/static/unfold/css/', 1)[1].split('"')[0]
            self.assertIn("200 OK", self.get(f"/static/unfold/css/{style}", "-H", "X-Forwarded-Proto: https"))
            self.assertIn("200 OK", self.get("/healthz"))
            large = self.directory / "large"
            large.write_bytes(b"x" * (9 * 1024 * 1024))
            self.assertIn("413 ", self.get("/admin/login/", "--data-binary", f"@{large}"))
            server.halt()
            self.assertIn("503 Service Unavailable", self.get("/healthz"))
            server.start()
            self.assertIn("200 OK", self.get("/healthz"))
        self.assertNotIn("Traceback", process.output())
        self.assertNotIn("Warning", process.output())


class ServerTest(SimpleTestCase):
    def serve(self, **settings: str) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        registry = migrated_copy(Path(folder.name) / "registry.sqlite3")
        own = {
            "STATE_DIR": str(Path(folder.name) / "state"),
            "DATABASE_URL": f"sqlite:///{registry}",
            "ACCESS_LOG": "on",
            "LOGIN_FAILURES": "2",
        }
        environment = child_environment(**own, **settings)
        self.port = free_port()
        argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(self.port)]
        process = ManagedProcess([*argv, "--lifespan", "off", "--no-server-header"], env=environment)
        self.addCleanup(process.kill)
        process.wait_ready(lambda: is_listening(self.port), "uvicorn listens")
        return process

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): each for name, each in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def fail(self, forwarded_for: str) -> int:  # type: ignore[override]
        """Log in with a wrong password."""
        _, headers, text = self.ask("GET", "/admin/login/")
        cookie = headers["Set-Cookie"].split(";")[0]
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text)
        assert found is not None
        data = {"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": found[1]}
        kind = "application/x-www-form-urlencoded"
        answer = self.ask(
            "POST", "/admin/login/", urlencode(data), Cookie=cookie, X_Forwarded_For=forwarded_for, Content_Type=kind
        )
        return int(answer[0])

    def test_a_trusted_proxy_says_who_its_client_is(self) -> None:
        process = self.serve(FORWARDED_ALLOW_IPS="127.0.0.1")
        self.assertEqual([self.fail("198.51.100.1") for _ in range(2)], [200, 429])
        self.assertEqual(self.fail("198.51.100.2"), 200)
        # What the client has put into the header stands in front of what the proxy adds.
        self.assertEqual(self.fail("203.0.113.9, 198.51.100.1"), 429)
        status, headers, _ = self.ask("GET", f"/invitations/{TOKEN}/")
        self.assertEqual((status, headers["Location"]), (302, "/invitations/accept/"))
        self.assertEqual(self.ask("GET", f"/invitations/{TOKEN}")[0], 301)
        self.assertEqual(self.ask("POST", f"/invitations/{TOKEN}/", "")[0], 403)
        self.assertNotIn("Server", headers)
        process.kill()
        self.assertIn("/invitations/[hidden]", process.output())
        self.assertNotIn(TOKEN, process.output())

    def test_others_say_nothing(self) -> None:
        self.serve(FORWARDED_ALLOW_IPS="192.0.2.1")
        self.assertEqual([self.fail(f"198.51.100.{number}") for number in range(3)], [200, 429, 429])
