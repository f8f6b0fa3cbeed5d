"""Free TCP ports on loopback, which no other test process on this machine is given."""

from __future__ import annotations

import os
import socket
from pathlib import Path

FIRST = 10_000
BLOCK = 100


class PortBlock:
    """A hundred ports that belong to this process as long as it holds the first of them.

    They lie below the ports that the kernel gives to connections: of those any could be taken between the instant when
    a test chooses it and the one when its server listens there.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        for first in _firsts():
            holder = _bound(first)
            if holder is not None:
                self._holder = holder  # bound but not listening: it refuses connections
                self._ports = iter(range(first + 1, first + BLOCK))
                return
        raise AssertionError("all ports for tests are taken: end other test runs on this machine")

    def next(self) -> int | None:
        """Return a port of the block that is free; None when they are all used."""
        for port in self._ports:
            probe = _bound(port)
            if probe is not None:
                probe.close()
                return port
        return None


_blocks: list[PortBlock] = []
"""This process's, and its parent's where it is a fork; all are held until the end."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on and that no test process was given before.

    Raises:
        AssertionError: other processes hold all of them.
    """
    while True:
        if not _blocks or _blocks[-1].owner != os.getpid():  # a fork's ports are its parent's
            _blocks.append(PortBlock())
        port = _blocks[-1].next()
        if port is not None:
            return port
        _blocks.append(PortBlock())


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _firsts() -> list[int]:
    try:
        least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        least = 32_768
    if least < FIRST + 20 * BLOCK:  # a machine that gives nearly all ports to connections
        least = 32_768
    # A new process begins elsewhere: ports in the first block would be used again while old connections linger there.
    blocks = list(range(FIRST, least - BLOCK, BLOCK))
    start = os.getpid() % len(blocks)
    return blocks[start:] + blocks[:start]


def _bound(port: int) -> socket.socket | None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return None
    return probe
