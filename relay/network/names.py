"""Addresses of names: what the resolver said, kept for a while, in the order in which they are tried.

Source: RFC 8305 (Happy Eyeballs Version 2), section 4, for names with several addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.logs import Once, get_logger
from relay.timings import Timings

REMEMBERED: Final = 4096
"""Names that are remembered at a time."""

LOOKUPS_AT_ONCE: Final = 8
"""Names that are asked for at a time by one that has these `Names`; as many again whose answers are slow."""

UNKNOWN_NAME: Final = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
"""What `socket.getaddrinfo` says where the name has no address; all else is the resolver's own trouble."""

_log = get_logger("relay.network.names")

Address = tuple[int, str]
"""Family and IP address."""

LookUp = Callable[[str], Awaitable[Sequence[tuple[Any, ...]]]]
"""Gives what `socket.getaddrinfo` does for a name."""


@dataclass(slots=True)
class _Answer:
    """What is known of a name.

    Attributes:
        fresh_until: the loop's time until which the resolver is not asked again.
        good_until: until which the addresses serve where the resolver fails.
    """

    addresses: list[Address]
    fresh_until: float
    good_until: float


@dataclass(slots=True)
class _LookUp:
    """A look-up under way.

    Attributes:
        lane: where it has a place.
        overdue: it has taken longer than `Timings.lookup_slow`.
        hurry: tells when it has.
    """

    task: asyncio.Task[list[Address]]
    lane: asyncio.Semaphore
    overdue: asyncio.Event
    hurry: asyncio.TimerHandle
    moving: asyncio.Task[None] | None = None


class Names:
    """The names that one tenant's targets have, or all nodes.

    A look-up cannot be called off: a name that no server answers for holds its thread until the resolver gives up. So
    one that takes longer than `Timings.lookup_slow` goes over to the slow ones, which have places of their own, and its
    name stays there until it is answered promptly: dead names hold up each other, and no living one.

    Args:
        look_up: asks the resolver; None for the event loop's own way.
        at_once: look-ups at a time.
        slow_at_once: further ones that are slow; None for as many.
    """

    def __init__(
        self,
        look_up: LookUp | None = None,
        timings: Timings = Timings(),
        at_once: int = LOOKUPS_AT_ONCE,
        slow_at_once: int | None = None,
    ) -> None:
        self._timings = timings
        self._ask = look_up or _ask_the_loop
        self._prompt = asyncio.Semaphore(at_once)
        self._slow = asyncio.Semaphore(at_once if slow_at_once is None else slow_at_once)
        self._slow_names: dict[str, None] = {}
        self._resolved: dict[str, _Answer] = {}
        self._lookups: dict[str, _LookUp] = {}
        self._once = Once()

    def known(self, host: str) -> list[Address] | None:
        """Return the addresses that are known without asking."""
        known = self._resolved.get(host)
        if known is not None:
            return known.addresses if asyncio.get_running_loop().time() < known.fresh_until else None
        literal = _literal(host)
        return None if literal is None else [literal]

    async def resolve(self, host: str) -> list[Address]:
        """Return the addresses of a name, in the order in which they are to be tried.

        Where the resolver fails, or does not answer in `Timings.lookup_slow`, the last answer serves on for
        `Timings.serve_stale`; where it says that there is no such name it does not.

        Raises:
            OSError: it has none, or cannot be looked up.
        """
        while (addresses := self.known(host)) is None:
            lookup = self._lookups.get(host)
            if lookup is not None:
                return await self._answer(host, lookup)  # one at a time for a name
            lane = self._slow if host in self._slow_names else self._prompt
            if lane.locked() and (last := self._last(host)) is not None:
                return last
            # A dial that gives up meanwhile leaves nothing behind that waits for its turn.
            await lane.acquire()
            if host in self._lookups or self.known(host) is not None:
                lane.release()
                continue
            self._begin(host, lane)
        return addresses

    def _begin(self, host: str, lane: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._look_up(host))
        hurry = loop.call_later(self._timings.lookup_slow, self._overdue, host)
        self._lookups[host] = _LookUp(task, lane, asyncio.Event(), hurry)
        task.add_done_callback(lambda done: self._looked_up(host, done))

    async def _answer(self, host: str, lookup: _LookUp) -> list[Address]:
        """Wait for a look-up; where there is a last answer, only while it is prompt."""
        last = self._last(host)
        if last is None:
            return await asyncio.shield(lookup.task)
        if host in self._slow_names:
            return last
        overdue = asyncio.create_task(lookup.overdue.wait())
        try:
            await asyncio.wait({lookup.task, overdue}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            overdue.cancel()
        last = self._last(host)
        if lookup.task.done() or last is None:
            return await asyncio.shield(lookup.task)
        self._tell_stale(host, "it gives no prompt answer")
        return last

    def _last(self, host: str) -> list[Address] | None:
        """Return the last answer for a name, where it is still good enough."""
        known = self._resolved.get(host)
        if known is None or asyncio.get_running_loop().time() >= known.good_until:
            return None
        return known.addresses

    async def _look_up(self, host: str) -> list[Address]:
        try:
            found = await self._ask(host)
        except ValueError as error:
            raise OSError(f"not a host name that can be looked up: {error}") from None
        except OSError as error:
            return self._failed(host, error)
        addresses = interleave(dict.fromkeys(_address(int(family), sockaddr) for family, _, _, _, sockaddr in found))
        known = self._resolved.get(host)
        if known and set(known.addresses) == set(addresses):
            addresses = known.addresses
        if known is None and len(self._resolved) >= REMEMBERED:
            self._resolved.clear()
        now = asyncio.get_running_loop().time()
        self._resolved[host] = _Answer(
            addresses, now + self._timings.resolved_for, now + self._timings.resolved_for + self._timings.serve_stale
        )
        return addresses

    def _failed(self, host: str, error: OSError) -> list[Address]:
        """Return the last answer, where the resolver's trouble is its own; else raise."""
        if isinstance(error, socket.gaierror) and error.errno in UNKNOWN_NAME:
            self._resolved.pop(host, None)
            raise error
        last = self._last(host)
        if last is None:
            raise error
        self._resolved[host].fresh_until = asyncio.get_running_loop().time() + self._timings.resolved_for
        self._tell_stale(host, error.strerror or str(error))
        return last

    def _tell_stale(self, host: str, problem: str) -> None:
        if self._once.allows(host, "stale"):
            _log.warning(f"the resolver fails for a name, its last answer serves on: {problem}", host=host)

    def _overdue(self, host: str) -> None:
        """Let the others go on: this look-up is among the slow ones as soon as there is a place."""
        lookup = self._lookups[host]
        lookup.overdue.set()
        if len(self._slow_names) >= REMEMBERED:
            self._slow_names.clear()
        self._slow_names[host] = None
        if lookup.lane is self._prompt:
            lookup.moving = asyncio.create_task(self._move(lookup))

    async def _move(self, lookup: _LookUp) -> None:
        await self._slow.acquire()
        lookup.lane = self._slow
        self._prompt.release()

    def _looked_up(self, host: str, done: asyncio.Task[list[Address]]) -> None:
        lookup = self._lookups.pop(host)
        lookup.hurry.cancel()
        if lookup.moving is not None and not lookup.moving.done():
            lookup.moving.cancel()
        lookup.lane.release()
        if not lookup.overdue.is_set():
            self._slow_names.pop(host, None)
        if not done.cancelled():
            done.exception()  # those who waited have it; there may be none

    def prefer(self, host: str, address: Address) -> None:
        """Put an address that has answered before the others of its name."""
        self._reorder(host, address, first=True)

    def defer(self, host: str, address: Address) -> None:
        """Put an address behind the others of its name: it took a connection and served nothing."""
        self._reorder(host, address, first=False)

    def _reorder(self, host: str, address: Address, *, first: bool) -> None:
        known = self._resolved.get(host)
        if known and address in known.addresses:
            # A new list: other dials are on their way through the old one.
            others = [other for other in known.addresses if other != address]
            known.addresses = interleave([address, *others]) if first else [*interleave(others), address]


async def _ask_the_loop(host: str) -> Sequence[tuple[Any, ...]]:
    return await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)


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
