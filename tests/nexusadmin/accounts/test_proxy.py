"""A real server: whose address counts behind a proxy, and what of an invitation's link it writes down."""

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

from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ManagedProcess, child_environment

TOKEN = "a-token-that-lets-anybody-in-0123456789-abc"


class ServerTest(SimpleTestCase):
    def serve(self, **settings: str) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        own = {"STATE_DIR": str(Path(folder.name) / "state"), "ACCESS_LOG": "on", "LOGIN_FAILURES": "2"}
        environment = child_environment(**own, **settings)
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--noinput"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
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
