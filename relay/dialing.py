"""Connections to targets."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, TypeVar

from relay.port_options import DIAL_TIMEOUT
from relay.targets import Target

RESOLVED_FOR: Final = 5.0
"""Seconds that the addresses of a name are reused; a burst of streams asks the resolver once."""

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

Address = tuple[int, str]
"""Family and IP address."""


class Dialer:
    """Dials targets, with a small memory of what names resolved to."""

    def __init__(self, timeout: float = DIAL_TIMEOUT) -> None:
        self.timeout = timeout
        self._resolved: dict[str, tuple[float, list[Address]]] = {}
        self._lookups: dict[str, asyncio.Task[list[Address]]] = {}

    async def connect(self, target: Target, protocol: _Protocol) -> None:
        """Connect ``protocol`` to a TCP or Unix target.

        Raises:
            OSError: no address of the target takes the connection; TimeoutError: none did in time.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.timeout):
            if target.kind == "unix":
                await loop.create_unix_connection(lambda: protocol, target.path)
                return
            addresses = await self._resolve(target.host)
            share = self.timeout / len(addresses)
            for index, (family, address) in enumerate(addresses):
                sock = None
                try:
                    # A kernel without IPv6 refuses the socket already, and the name may have an IPv4 address too.
                    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                    async with asyncio.timeout(share):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        await loop.sock_connect(sock, (address, target.port))
                    await loop.create_connection(lambda: protocol, sock=sock)
                except BaseException as error:
                    if sock is not None:
                        sock.close()
                    if isinstance(error, OSError) and index + 1 < len(addresses):
                        continue
                    raise
                if index:
                    # The next dial starts with the address that answered ("localhost" is ::1 and 127.0.0.1).
                    self._prefer(target.host, (family, address))
                return

    async def udp_socket(self, target: Target) -> socket.socket:
        """Return a connected, non-blocking UDP socket.

        Raises:
            OSError: the name does not resolve, or the target is a Unix socket.
        """
        if target.kind == "unix":
            raise OSError("a UDP flow can not end at a Unix socket")
        async with asyncio.timeout(self.timeout):
            addresses = await self._resolve(target.host)
        # UDP does not tell that nobody listens; of a name with both families IPv4 is the likelier to be served.
        family, address = min(addresses, key=lambda known: known[0] != socket.AF_INET)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((address, target.port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _resolve(self, host: str) -> list[Address]:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except (OSError, ValueError):
                continue
            return [(family, host)]
        known = self._resolved.get(host)
        if known and asyncio.get_running_loop().time() < known[0]:
            return known[1]
        lookup = self._lookups.get(host)
        if lookup is None:
            # One at a time: the resolver's threads are few, and one tenant's dead name must not hold them all.
            lookup = self._lookups[host] = asyncio.create_task(self._look_up(host, known))
            lookup.add_done_callback(lambda done: self._looked_up(host, done))
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str, known: tuple[float, list[Address]] | None) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except ValueError as error:
            raise OSError(f"not a host name that can be looked up: {error}") from None
        addresses = list(dict.fromkeys((int(family), str(sockaddr[0])) for family, _, _, _, sockaddr in found))
        if known and set(known[1]) == set(addresses):
            addresses = known[1]
        if len(self._resolved) >= 4096:
            self._resolved.clear()
        self._resolved[host] = (loop.time() + RESOLVED_FOR, addresses)
        return addresses

    def _looked_up(self, host: str, lookup: asyncio.Task[list[Address]]) -> None:
        del self._lookups[host]
        if not lookup.cancelled():
            lookup.exception()  # whoever waited has it; nobody may be left

    def _prefer(self, host: str, address: Address) -> None:
        known = self._resolved.get(host)
        if known and address in known[1]:
            # A new list: other dials are on their way through the old one.
            self._resolved[host] = (known[0], [address, *(other for other in known[1] if other != address)])
