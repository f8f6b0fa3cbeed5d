"""Connections to targets: which of several takes the stream."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

from relay.config.port_options import DIAL_TIMEOUT
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target
from relay.network.names import Names
from relay.network.racing import open_tcp, open_unix
from relay.targets.permission import TargetRefused, permitted
from relay.timings import Timings

REMEMBERED: Final = 4096
"""Targets that failed that are remembered at a time."""


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
        return str(error) or "no answer in time"
    if isinstance(error, OSError):
        # asyncio's own text for a refused connection does not say that it was refused.
        if error.errno and not isinstance(error, socket.gaierror):
            return os.strerror(error.errno)
        return error.strerror or str(error) or type(error).__name__
    return str(error)


class Dialer:
    """Dials targets, with a small memory of which target failed.

    Args:
        timeout: seconds for a dial that names no other.
        names: what knows the addresses of names; None for one of its own, which asks the event loop.
    """

    def __init__(self, timeout: float = DIAL_TIMEOUT, names: Names | None = None, timings: Timings = Timings()) -> None:
        self.timeout = timeout
        self._timings = timings
        self.names = names or Names(timings=timings)
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
        self._failed[target] = asyncio.get_running_loop().time() + self._timings.failed_for

    # -- sockets -----------------------------------------------------------------------------------------------

    async def _open(self, target: Target, timeout: float, policies: Sequence[TargetPolicy]) -> socket.socket:
        """Return a connected, non-blocking socket. A target on this machine answers without a wait for the loop."""
        if target.kind == "unix":
            for policy in policies:
                if refusal := policy.unix_refusal():
                    raise TargetRefused(refusal)
            return await open_unix(target.path, timeout, self._timings.backlog_retry)
        loop = asyncio.get_running_loop()
        sock, _ = await open_tcp(
            self.names,
            target.host,
            target.port,
            loop.time() + timeout,
            self._timings,
            lambda addresses: permitted(addresses, target.port, policies),
        )
        return sock

    async def _open_udp(self, target: Target, timeout: float, policies: Sequence[TargetPolicy]) -> socket.socket:
        if target.kind == "unix":
            raise OSError("a UDP flow cannot end at a Unix socket")
        async with asyncio.timeout(timeout):
            addresses = permitted(await self.names.resolve(target.host), target.port, policies)
        # UDP does not tell that nothing listens; of a name with both families IPv4 is the likelier to be served.
        family, address = min(addresses, key=lambda known: known[0] != socket.AF_INET)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((address, target.port))
        except BaseException:
            sock.close()
            raise
        return sock
