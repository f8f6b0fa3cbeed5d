"""Addresses of targets' names: what the resolver said, kept for a while, in the order in which they are tried.

Source: RFC 8305 (Happy Eyeballs Version 2), section 4, for names with several addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from relay.config.target_policy import TargetPolicy
from relay.timings import Timings

REMEMBERED: Final = 4096
"""Names that are remembered at a time."""

LOOKUPS_AT_ONCE: Final = 8
"""Names that one dialer asks the resolver for at a time; dead ones must not hold all threads that look names up."""

Address = tuple[int, str]
"""Family and IP address."""

LookUp = Callable[[str], Awaitable[Sequence[tuple[Any, ...]]]]
"""Gives what `socket.getaddrinfo` does for a name."""


class TargetRefused(OSError):
    """A policy does not let the target be dialled; nothing was tried."""


class Names:
    """The names that one dialer has asked for.

    Args:
        look_up: asks the resolver; None for the event loop's own way.
    """

    def __init__(self, look_up: LookUp | None = None, timings: Timings = Timings()) -> None:
        self._timings = timings
        self._ask = look_up or _ask_the_loop
        self._asking = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._resolved: dict[str, tuple[float, list[Address]]] = {}
        self._lookups: dict[str, asyncio.Task[list[Address]]] = {}

    def known(self, host: str) -> list[Address] | None:
        """Return the addresses that are known without asking."""
        known = self._resolved.get(host)
        if known is not None:
            return known[1] if asyncio.get_running_loop().time() < known[0] else None
        literal = _literal(host)
        return None if literal is None else [literal]

    async def resolve(self, host: str) -> list[Address]:
        """Return the addresses of a name, in the order in which they are to be tried.

        Raises:
            OSError: it has none, or cannot be looked up.
        """
        while (addresses := self.known(host)) is None:
            lookup = self._lookups.get(host)
            if lookup is not None:
                return await asyncio.shield(lookup)  # one at a time for a name
            # A dial that gives up meanwhile leaves nothing behind that waits for its turn.
            await self._asking.acquire()
            if host in self._lookups or self.known(host) is not None:
                self._asking.release()
                continue
            lookup = self._lookups[host] = asyncio.create_task(self._look_up(host, self._resolved.get(host)))
            lookup.add_done_callback(lambda done: self._looked_up(host, done))
        return addresses

    async def _look_up(self, host: str, known: tuple[float, list[Address]] | None) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await self._ask(host)
        except ValueError as error:
            raise OSError(f"not a host name that can be looked up: {error}") from None
        addresses = interleave(dict.fromkeys(_address(int(family), sockaddr) for family, _, _, _, sockaddr in found))
        if known and set(known[1]) == set(addresses):
            addresses = known[1]
        if len(self._resolved) >= REMEMBERED:
            self._resolved.clear()
        self._resolved[host] = (loop.time() + self._timings.resolved_for, addresses)
        return addresses

    def _looked_up(self, host: str, lookup: asyncio.Task[list[Address]]) -> None:
        del self._lookups[host]
        self._asking.release()
        if not lookup.cancelled():
            lookup.exception()  # those who waited have it; there may be none

    def prefer(self, host: str, address: Address) -> None:
        """Put an address that has answered before the others of its name."""
        known = self._resolved.get(host)
        if known and address in known[1]:
            # A new list: other dials are on their way through the old one.
            others = (other for other in known[1] if other != address)
            self._resolved[host] = (known[0], interleave([address, *others]))


async def _ask_the_loop(host: str) -> Sequence[tuple[Any, ...]]:
    return await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)


def permitted(addresses: list[Address], port: int, policies: Sequence[TargetPolicy]) -> list[Address]:
    """Return those of the addresses that all policies permit: exactly what is dialled, so nothing is resolved again.

    Raises:
        TargetRefused: there are none; why, of the first.
    """
    if not policies:
        return addresses
    found: list[Address] = []
    problem = ""
    for address in addresses:
        refusal = next(filter(None, (policy.refusal(address[1], port) for policy in policies)), "")
        if not refusal:
            found.append(address)
        problem = problem or refusal
    if not found:
        raise TargetRefused(problem)
    return found


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with their families in turn, beginning with that of the first (RFC 8305, section 4).

    Those of one family stay in their order.
    """
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    queues = list(families.values())
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def _literal(host: str) -> Address | None:
    """Return the address that ``host`` is, None for a name (and for an address with a zone)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return (family, host)
    return None


def _address(family: int, sockaddr: tuple[object, ...]) -> Address:
    host = str(sockaddr[0])
    if len(sockaddr) == 4 and sockaddr[3]:
        host += f"%{sockaddr[3]}"  # a link-local address means nothing without its interface
    return (family, host)
