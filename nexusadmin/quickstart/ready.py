"""When everything of `make run` is up, and what to tell then."""

from __future__ import annotations

import http.client
import shlex
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from django.conf import settings

from nexusadmin.quickstart.ports import HOST
from nexusadmin.quickstart.prepare import Prepared

HOSTNAME: Final = "app.example.test"
READY_TIMEOUT: Final = 60.0
"""Seconds after which the person is told what is not up."""

POLL: Final = 0.2


def admin_answers() -> bool:
    """Return whether the admin's web server and its database answer."""
    connection = http.client.HTTPConnection(HOST, settings.WEB_PORT, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def http_arrives() -> bool:
    """Return whether a request by Host comes back from a target behind the relay."""
    connection = http.client.HTTPConnection(HOST, settings.NODE_HTTP_PORT, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": HOSTNAME})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tls_arrives() -> bool:
    """Return whether a TLS handshake by SNI is finished by a target behind the relay, whatever its certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((HOST, settings.NODE_TLS_PORT), timeout=5) as connection,
            context.wrap_socket(connection, server_hostname=HOSTNAME),
        ):
            return True
    except OSError:
        return False


ADMIN: Final = "the admin"
PROBES: Final[dict[str, Callable[[], bool]]] = {
    ADMIN: admin_answers,
    f"HTTP for {HOSTNAME} through the node and the relay": http_arrives,
    f"TLS for {HOSTNAME} through the node and the relay": tls_arrives,
}
LINE: Final = "-" * 78


class Announcer:
    """Tells, once each, how to log in, when the admin answers, and what to ask, when the rest answers.

    The new password is shown in any case, since it is stored nowhere else.
    """

    def __init__(self, prepared: Prepared, *, timeout: float = READY_TIMEOUT) -> None:
        self._prepared = prepared
        self._timeout = timeout
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._password = prepared.password

    def start(self) -> None:
        """Begin to probe, in a thread; harmless when it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="quickstart-ready", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the probing, and tell the password if nothing was told yet."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=6)
        if self._password is not None:
            _write(f"\n{self._login()}\n")

    def _run(self) -> None:
        waiting = dict(PROBES)
        deadline = time.monotonic() + self._timeout
        told = False
        while waiting and time.monotonic() < deadline:
            for what, probe in list(waiting.items()):
                if probe():
                    del waiting[what]
                if not told and ADMIN not in waiting:
                    # At once: the other probes may wait for a backend that someone has switched off.
                    told = True
                    _write(self._admin())
            if waiting and self._stopped.wait(POLL):
                return
        if not self._stopped.is_set():
            _write(("" if told else self._admin()) + self._outcome(list(waiting)))

    def _admin(self) -> str:
        lines = ["", LINE, f"  Admin:     http://localhost:{settings.WEB_PORT}/admin/", self._login(), LINE]
        return "\n".join(lines) + "\n"

    def _outcome(self, missing: list[str]) -> str:
        resolve = f"{HOSTNAME}:{settings.NODE_TLS_PORT}:{HOST}"
        lines = ["", LINE]
        if missing:
            lines += [
                "Started, but this does not answer (the lines above may say why; or backend demo is disabled or gone):",
                *(f"  {m}" for m in missing),
            ]
        else:
            lines += ["Everything is up."]
        lines += [
            "",
            "  Plain HTTP, routed by Host:",
            f"    curl -H 'Host: {HOSTNAME}' http://{HOST}:{settings.NODE_HTTP_PORT}/",
            "  TLS, routed by SNI and ended at the target:",
            f"    curl --cacert {shlex.quote(str(self._prepared.demo_ca))} --resolve {resolve} "
            f"https://{HOSTNAME}:{settings.NODE_TLS_PORT}/",
            "",
            f"  The target blue is {HOST}:{settings.DEMO_BLUE_HTTP_PORT} and :{settings.DEMO_BLUE_TLS_PORT} (TLS), "
            f"green is {HOST}:{settings.DEMO_GREEN_HTTP_PORT} and :{settings.DEMO_GREEN_TLS_PORT}.",
            "  Change the default targets of backend demo in the admin from one to the other, and ask again.",
            "  Ctrl-C stops everything.",
            LINE,
            "",
        ]
        return "\n".join(lines) + "\n"

    def _login(self) -> str:
        reset = f"{shlex.quote(sys.executable)} manage.py changepassword {shlex.quote(self._prepared.user)}"
        if self._password is None:
            return f"  User:      {self._prepared.user} (there already; a new password: {reset})"
        password, self._password = self._password, None
        return f"  User:      {self._prepared.user}\n  Password:  {password}   (shown this once; a new one: {reset})"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
