"""Free TCP ports on loopback."""

from __future__ import annotations

import socket

_given: set[int] = set()


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on and that this process was not given before."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
