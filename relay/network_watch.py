"""Network interfaces that come up, so that lost sessions need not wait for their timers (rtnetlink(7)).

Linux only; elsewhere, or where the kernel refuses the socket, nothing is noticed and the timers do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from relay.logs import get_logger
from relay.timings import Timings

LINK_GROUP: Final = 0x1
IPV4_ADDRESS_GROUP: Final = 0x10
IPV6_ADDRESS_GROUP: Final = 0x100
NEW_LINK: Final = 16
DELETED_LINK: Final = 17
NEW_ADDRESS: Final = 20
RUNNING: Final = 0x40

HEADER: Final = struct.Struct("=IHHII")
LINK: Final = struct.Struct("=BxHiII")

_log = get_logger("relay.network_watch")


class Interfaces:
    """Which interfaces run, as far as messages of the kernel have told."""

    def __init__(self) -> None:
        self._running: dict[int, bool] = {}

    def came_up(self, data: bytes) -> bool:
        """Take one datagram of the kernel; say whether an interface came up or got an address. Never raises."""
        found = False
        for kind, body in _messages(data):
            if kind == NEW_ADDRESS:
                found = True
            elif kind in (NEW_LINK, DELETED_LINK) and len(body) >= LINK.size:
                _, _, index, flags, _ = LINK.unpack_from(body)
                runs = kind == NEW_LINK and bool(flags & RUNNING)
                # Of an interface that was never spoken of nothing is known: it ran, most likely.
                found |= runs and not self._running.get(index, True)
                self._running[index] = runs
        return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data)
        if not HEADER.size <= length <= len(data):
            return
        yield kind, data[HEADER.size : length]
        data = data[(length + 3) & ~3 :]


@contextlib.contextmanager
def watch_interfaces(came_up: Callable[[], None], pause: float = Timings().network_retry_pause) -> Iterator[None]:
    """Call ``came_up`` when an interface came up or got an address, at most every ``pause`` seconds."""
    loop = asyncio.get_running_loop()
    interfaces, last = Interfaces(), -pause
    sock = _open()

    def readable() -> None:
        nonlocal last
        assert sock is not None
        try:
            data = sock.recv(65536)
        except OSError:
            return  # the kernel dropped messages, or there are none any more
        if interfaces.came_up(data) and loop.time() - last >= pause:
            last = loop.time()
            _log.info("a network interface came up: waiting sessions are tried at once")
            came_up()

    if sock is not None:
        loop.add_reader(sock, readable)
    try:
        yield
    finally:
        if sock is not None:
            loop.remove_reader(sock)
            sock.close()


def _open() -> socket.socket | None:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        sock.bind((0, LINK_GROUP | IPV4_ADDRESS_GROUP | IPV6_ADDRESS_GROUP))
    except (OSError, AttributeError):
        return None
    return sock
