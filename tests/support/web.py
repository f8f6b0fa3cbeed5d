"""The admin in a process of its own, and a visitor who logs in there as a browser does."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from dataclasses import dataclass
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ManagedProcess, child_environment


class WebServer:
    """uvicorn with the test's database.

    Args:
        variables: environment variables; with ``DEBUG="off"`` the static files are collected into STATIC_ROOT first.
    """

    def __init__(self, **variables: str | None) -> None:
        self.port = free_port()
        self._environment = child_environment(**variables)
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        if self._environment.get("DEBUG") == "off":
            command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity", "0"]
            subprocess.run(command, cwd=ROOT, env=self._environment, check=True, capture_output=True)
        argv = [sys.executable, "-m", "uvicorn", "nexusadmin.web.asgi:application", "--port", str(self.port)]
        self._process = ManagedProcess([*argv, "--lifespan", "off"], env=self._environment)
        self._process.wait_ready(lambda: is_listening(self.port), "uvicorn listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        """Return everything that it has logged so far."""
        return "" if self._process is None else self._process.output()


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What came back."""

    status_code: int
    content: bytes
    headers: dict[str, str]


class Visitor:
    """Keeps cookies, and says that it came by TLS through a proxy."""

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> WebAnswer:
        """Ask for a page."""
        return self._ask("GET", path)

    def post(self, path: str, data: dict[str, Any], *, forged: bool = False) -> WebAnswer:
        """Post a form; a ``forged`` one without the token that shows where it comes from."""
        token = {} if forged else {"csrfmiddlewaretoken": self.cookies.get("csrftoken", "")}
        body = urlencode({**data, **token}).encode()
        return self._ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def post_json(self, path: str, data: dict[str, Any], headers: dict[str, str]) -> WebAnswer:
        """Post JSON, as a program does."""
        return self._ask("POST", path, json.dumps(data).encode(), {"Content-Type": "application/json", **headers})

    def log_in(self, name: str, password: str) -> WebAnswer:
        """Post the log-in form."""
        self.get("/admin/login/")
        return self.post("/admin/login/?next=/admin/", {"username": name, "password": password})

    def _ask(self, method: str, path: str, body: bytes | None = None, more: dict[str, str] | None = None) -> WebAnswer:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)
        origin = f"https://127.0.0.1:{self._server.port}"
        headers = {"X-Forwarded-Proto": "https", "Referer": f"{origin}/admin/"}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers |= more or {}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    self.cookies |= {key: morsel.value for key, morsel in SimpleCookie(value).items()}
            return WebAnswer(answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()})
        finally:
            connection.close()
