"""The ports of `make run`, all on loopback, and whether they are free."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

HOST = "127.0.0.1"


class PortsNotFree(Exception):
    """Ports that cannot be listened on; the message names each with its setting."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that something listens on, and the setting that moves it."""

    setting: str
    number: int
    purpose: str


def configured_ports() -> list[Port]:
    """Return the ports as the settings have them."""
    purposes = {
        "WEB_PORT": "admin",
        "NODE_HUB_PORT": "development node, sessions",
        "NODE_HTTP_PORT": "development node, public HTTP",
        "NODE_TLS_PORT": "development node, public TLS",
        "DEMO_BLUE_HTTP_PORT": "demo target blue, HTTP",
        "DEMO_BLUE_TLS_PORT": "demo target blue, HTTPS",
        "DEMO_GREEN_HTTP_PORT": "demo target green, HTTP",
        "DEMO_GREEN_TLS_PORT": "demo target green, HTTPS",
    }
    return [Port(setting, getattr(settings, setting), purpose) for setting, purpose in purposes.items()]


def check_free(ports: Sequence[Port]) -> None:
    """Return when each port can be listened on.

    Raises:
        PortsNotFree: some cannot, or two settings name one port.
    """
    problems = []
    seen: dict[int, Port] = {}
    for port in ports:
        other = seen.setdefault(port.number, port)
        if other is not port:
            problems.append(
                f"{other.setting} and {port.setting} are both {port.number}: set one of them to another port."
            )
            continue
        reason = _why_not(port.number)
        if reason:
            problems.append(
                f"Port {port.number} on {HOST} ({port.purpose}) {reason}: stop what listens there, "
                f"or choose another: make run {port.setting}={_suggestion(ports)}"
            )
    if problems:
        raise PortsNotFree("\n".join(problems))


def _why_not(number: int) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is taken"
            return f"cannot be used ({os.strerror(error.errno or 0)})"
    return None


def _suggestion(ports: Sequence[Port]) -> int:
    """Return a free port that no setting names."""
    named = {port.number for port in ports}
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            number = int(probe.getsockname()[1])
        if number not in named:
            return number
