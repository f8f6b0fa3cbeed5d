"""Connections to targets: which address of a name answers, and which of several targets.

Source: RFC 8305 (Happy Eyeballs Version 2), sections 4 and 5, for names with several addresses.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from relay.config.port_options import DIAL_TIMEOUT
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target

RESOLVED_FOR: Final = 5.0
"""Seconds that the addresses of a name are reused; a burst of streams asks the resolver once."""

STAGGER: Final = 0.25
"""Seconds after which the next address of a name is tried beside those that have not answered (RFC 8305, section 5)."""

FAILED_FOR: Final = 5.0
"""Seconds for which a target that failed a dial comes after the others."""

REMEMBERED: Final = 4096
"""Names, and targets that failed, that are remembered at a time."""

LOOKUPS_AT_ONCE: Final = 8
"""Names that one dialer asks the resolver for at a time; dead ones must not hold all threads that look names up."""

_RETRY_FIRST, _RETRY_MOST = 0.005, 0.1  # seconds between attempts at a Unix socket whose backlog is full
_PENDING = (errno.EINPROGRESS, errno.EALREADY)

Address = tuple[int, str]
"""Family and IP address."""

LookUp = Callable[[str], Awaitable[Sequence[tuple[Any, ...]]]]
"""Gives what `socket.getaddrinfo` does for a name."""


class TargetRefused(OSError):
    """A policy does not let the target be dialled; nothing was tried."""


class DialFailed(OSError):
    """No target took the stream.

    Attributes:
        failures: each target that was tried, and why it failed, in words.
    """

    def __init__(self, failures: Sequence[tuple[Target, str]]) -> None:
        self.failures = tuple(failures)
        if len(self.failures) == 1:
            problem = self.failures[0][1]
        else:
            problem = "; ".join(f"{target}: {problem}" for target, problem in self.failures)
        super().__init__(problem)


def words_of(error: Exception) -> str:
    """Return why something failed, without what the log line around it says anyway."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer in time"
    if isinstance(error, OSError):
        # asyncio's own text for a refused connection does not say that it was refused.
        if error.errno and not isinstance(error, socket.gaierror):
            return os.strerror(error.errno)
        return error.strerror or str(error) or type(error).__name__
    return str(error)


class Dialer:
    """Dials targets, with a small memory of what names resolved to, which address answered and which target failed.

    Args:
        timeout: seconds for a dial that names no other.
        look_up: asks the resolver; None for the event loop's own way.
    """

    def __init__(self, timeout: float = DIAL_TIMEOUT, look_up: LookUp | None = None) -> None:
        self.timeout = timeout
        self._ask = look_up or _ask_the_loop
        self._asking = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._resolved: dict[str, tuple[float, list[Address]]] = {}
        self._lookups: dict[str, asyncio.Task[list[Address]]] = {}
        self._failed: dict[Target, float] = {}

    async def connect(
        self,
        targets: Sequence[Target],
        protocol: asyncio.BaseProtocol,
        timeout: float | None = None,
        policies: Sequence[TargetPolicy] = (),
    ) -> Target:
        """Connect ``protocol`` to the first of the targets that answers, and return that one.

        Targets that failed just now are tried last. One that neither answers nor refuses gets its share of the time,
        no more: what is left, divided by the targets that are left.

        Args:
            timeout: seconds for all targets and addresses together; None for the dialer's own.
            policies: which must all permit an address; what they do not is left out.

        Raises:
            DialFailed: none answered.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.timeout if timeout is None else timeout)
        failures: list[tuple[Target, str]] = []
        for tried, target in enumerate(self.failed_last(targets)):
            try:
                sock = await self._open(target, (deadline - loop.time()) / (len(targets) - tried), policies)
                # From here on the socket is the loop's, which closes it where the wait for the transport is cancelled.
                if target.kind == "unix":
                    await loop.create_unix_connection(lambda: protocol, sock=sock)
                else:
                    await loop.create_connection(lambda: protocol, sock=sock)
            except TargetRefused as refused:
                # Not a failure of the target's: another tenant's policy may permit it.
                failures.append((target, words_of(refused)))
            except OSError as error:
                self._note_failed(target)
                failures.append((target, words_of(error)))
            else:
                if self._failed:
                    self._failed.pop(target, None)
                return target
        raise DialFailed(failures)

    async def udp_socket(
        self, targets: Sequence[Target], timeout: float | None = None, policies: Sequence[TargetPolicy] = ()
    ) -> tuple[socket.socket, Target]:
        """Return a connected, non-blocking UDP socket to the first target that can have one.

        Raises:
            DialFailed: no name resolves, no address is permitted, or the targets are Unix sockets.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.timeout if timeout is None else timeout)
        failures: list[tuple[Target, str]] = []
        for tried, target in enumerate(self.failed_last(targets)):
            try:
                share = (deadline - loop.time()) / (len(targets) - tried)
                return await self._open_udp(target, share, policies), target
            except OSError as error:
                failures.append((target, words_of(error)))
        raise DialFailed(failures)

    async def probe(self, target: Target, timeout: float, policies: Sequence[TargetPolicy] = ()) -> None:
        """Connect to a target and close at once.

        Raises:
            OSError: it does not take connections, or is not permitted.
        """
        (await self._open(target, timeout, policies)).close()

    def failed_lately(self, target: Target) -> bool:
        """Say whether a dial of this target failed just now, and none has succeeded since."""
        until = self._failed.get(target)
        if until is None:
            return False
        if asyncio.get_running_loop().time() < until:
            return True
        del self._failed[target]
        return False

    def failed_last(self, targets: Sequence[Target]) -> Sequence[Target]:
        """Return the targets in their order, but for those that failed just now, which come last."""
        if len(targets) == 1 or not self._failed:
            return targets
        return sorted(targets, key=self.failed_lately)

    def _note_failed(self, target: Target) -> None:
        if len(self._failed) >= REMEMBERED:
            self._failed.clear()
        self._failed[target] = asyncio.get_running_loop().time() + FAILED_FOR

    # -- sockets -----------------------------------------------------------------------------------------------

    async def _open(self, target: Target, timeout: float, policies: Sequence[TargetPolicy]) -> socket.socket:
        """Return a connected, non-blocking socket. A target on this machine answers without a wait for the loop."""
        if target.kind == "unix":
            for policy in policies:
                if refusal := policy.unix_refusal():
                    raise TargetRefused(refusal)
            return await _open_unix(target.path, timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        addresses = self._known(target.host)
        if addresses is None:
            async with asyncio.timeout_at(deadline):
                addresses = await self._resolve(target.host)
        addresses = permitted(addresses, target.port, policies)
        # Where there are many addresses, each gets its chance within the time.
        sock, address = await _race(addresses, target.port, min(STAGGER, timeout / len(addresses)), deadline)
        if address != addresses[0]:
            # The next dial starts with the address that answered ("localhost" is ::1 and 127.0.0.1).
            self._prefer(target.host, address)
        return sock

    async def _open_udp(self, target: Target, timeout: float, policies: Sequence[TargetPolicy]) -> socket.socket:
        if target.kind == "unix":
            raise OSError("a UDP flow can not end at a Unix socket")
        async with asyncio.timeout(timeout):
            addresses = permitted(await self._resolve(target.host), target.port, policies)
        # UDP does not tell that nobody listens; of a name with both families IPv4 is the likelier to be served.
        family, address = min(addresses, key=lambda known: known[0] != socket.AF_INET)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((address, target.port))
        except BaseException:
            sock.close()
            raise
        return sock

    # -- names -------------------------------------------------------------------------------------------------

    def _known(self, host: str) -> list[Address] | None:
        """Return the addresses that nobody has to be asked for."""
        known = self._resolved.get(host)
        if known is not None:
            return known[1] if asyncio.get_running_loop().time() < known[0] else None
        literal = _literal(host)
        return None if literal is None else [literal]

    async def _resolve(self, host: str) -> list[Address]:
        while (addresses := self._known(host)) is None:
            lookup = self._lookups.get(host)
            if lookup is not None:
                return await asyncio.shield(lookup)  # one at a time for a name
            # Whoever gives up meanwhile leaves nothing behind that waits for its turn.
            await self._asking.acquire()
            if host in self._lookups or self._known(host) is not None:
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
        self._resolved[host] = (loop.time() + RESOLVED_FOR, addresses)
        return addresses

    def _looked_up(self, host: str, lookup: asyncio.Task[list[Address]]) -> None:
        del self._lookups[host]
        self._asking.release()
        if not lookup.cancelled():
            lookup.exception()  # whoever waited has it; nobody may be left

    def _prefer(self, host: str, address: Address) -> None:
        known = self._resolved.get(host)
        if known and address in known[1]:
            # A new list: other dials are on their way through the old one.
            others = (other for other in known[1] if other != address)
            self._resolved[host] = (known[0], interleave([address, *others]))


async def _ask_the_loop(host: str) -> Sequence[tuple[Any, ...]]:
    return await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)


def permitted(addresses: list[Address], port: int, policies: Sequence[TargetPolicy]) -> list[Address]:
    """Return those of the addresses that all policies permit: exactly what is dialled, so nothing resolves anew.

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


def _begin(address: Address, port: int) -> tuple[socket.socket, bool]:
    """Return a socket that connects or has connected, and whether the answer is still to come.

    Raises:
        OSError: the answer is no. Nothing is left open.
    """
    # A kernel without IPv6 refuses the socket already, and the name may have an IPv4 address too.
    sock = socket.socket(address[0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        code = sock.connect_ex((address[1], port))
        if code == errno.EINPROGRESS:
            # On one machine the handshake is over by now, and asking again tells how it went.
            code = sock.connect_ex((address[1], port))
        if code and code not in _PENDING:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock, code != 0


def _answered(sock: socket.socket) -> asyncio.Future[None]:
    """Return a future that is done when the answer can be read; `loop.remove_writer` is for the caller."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, answer)
    return answer


def _settle(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _result(sock: socket.socket) -> None:
    """Raise what a connecting socket's answer was, where it was no."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def _race(
    addresses: Sequence[Address], port: int, stagger: float, deadline: float
) -> tuple[socket.socket, Address]:
    """Connect to the first address that answers: each next one starts when one failed or after ``stagger`` seconds.

    Raises:
        OSError: of the address that failed last; TimeoutError: none answered by ``deadline`` (the loop's time).
    """
    loop = asyncio.get_running_loop()
    attempts: dict[asyncio.Future[None], tuple[socket.socket, Address]] = {}
    problem: OSError | None = None
    try:
        for place, address in enumerate(addresses):
            is_last, failed = place + 1 == len(addresses), False
            try:
                sock, pending = _begin(address, port)
            except OSError as error:
                problem, failed = error, True
            else:
                if not pending:
                    return sock, address
                attempts[_answered(sock)] = (sock, address)
            while attempts and (is_last or not failed):
                left = max(0.0, deadline - loop.time())
                patience = left if is_last else min(stagger, left)
                answers, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not answers:
                    if patience == left:
                        raise TimeoutError
                    break
                # Of two that answer in one instant the earlier wins.
                for answer in [answer for answer in attempts if answer in answers]:
                    sock, address = attempts.pop(answer)
                    loop.remove_writer(sock)
                    try:
                        _result(sock)
                    except OSError as error:
                        sock.close()
                        problem, failed = error, True
                    else:
                        return sock, address
        raise problem or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    finally:
        for answer, (sock, _) in attempts.items():
            answer.cancel()
            loop.remove_writer(sock)
            sock.close()


async def _open_unix(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        code = sock.connect_ex(path)
        if code == errno.EAGAIN:
            # Its backlog is full; there is nothing that tells when it no longer is.
            async with asyncio.timeout(timeout):
                pause = _RETRY_FIRST
                while code == errno.EAGAIN:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _RETRY_MOST)
                    code = sock.connect_ex(path)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
