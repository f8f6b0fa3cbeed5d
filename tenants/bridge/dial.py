"""Dials of targets from this machine, as the relay dials them: the same addresses, policies and time-outs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from relay.config import BackendConfig
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target, parse_targets
from relay.errors import InvalidValue
from relay.targets.dialing import Dialer, words_of

MAX_DIAL_TIMEOUT: Final = 5.0
"""Seconds for one target, where its port's own time-out is not shorter."""

MOST_TARGETS: Final = 8
"""Targets of one route that are dialled."""

AT_ONCE: Final = 4
"""Dials on request at a time in this process, which has pages to serve meanwhile."""

_places = threading.BoundedSemaphore(AT_ONCE)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DialAnswer:
    """The result of a dial.

    Attributes:
        seconds: until the target answered, or the dial was given up.
        problem: why it did not; empty where it did.
    """

    target: str
    seconds: float
    problem: str

    @property
    def milliseconds(self) -> str:
        """The time it took, for display."""
        return f"{self.seconds * 1000:.1f}"


def dial_route(config: BackendConfig, targets: str, port: int, transport: str = "tcp") -> list[DialAnswer]:
    """Dial each target of a route once, and close at once.

    Of UDP only what can be known: that the name resolves and that the policy permits it.

    Args:
        config: whose policies and time-out hold.
        targets: as `relay.config.targets.parse_targets` reads them.
        port: the public port, whose time-out holds.
    """
    options = config.routes.options(port, transport)
    timeout = MAX_DIAL_TIMEOUT if options is None else min(MAX_DIAL_TIMEOUT, options.dial_timeout)
    try:
        found = parse_targets(targets)[:MOST_TARGETS]
    except InvalidValue as error:
        return [DialAnswer(targets, 0.0, str(error))]
    if not _places.acquire(blocking=False):
        return [DialAnswer(targets, 0.0, "too many dials are under way on this machine: try again in some seconds")]
    try:
        return run_apart(_dial_all(found, timeout, config.target_policies, transport))
    finally:
        _places.release()


async def _dial_all(
    targets: Sequence[Target], timeout: float, policies: Sequence[TargetPolicy], transport: str
) -> list[DialAnswer]:
    dialer = Dialer(timeout)
    return list(await asyncio.gather(*(dial(dialer, each, timeout, policies, transport) for each in targets)))


async def dial(
    dialer: Dialer, target: Target, timeout: float, policies: Sequence[TargetPolicy] = (), transport: str = "tcp"
) -> DialAnswer:
    """Dial one target."""
    begun, problem = time.monotonic(), ""
    try:
        if transport == "udp":
            sock, _ = await dialer.udp_socket([target], timeout, policies)
            sock.close()
        else:
            await dialer.probe(target, timeout, policies)
    except (OSError, InvalidValue) as error:
        problem = words_of(error)
    return DialAnswer(str(target), time.monotonic() - begun, problem)


def run_apart(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a loop of its own in a thread of its own, so that it can be called from anywhere.

    A resolver that does not answer blocks nothing: its thread is left behind.
    """
    found: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        loop = asyncio.new_event_loop()
        try:
            found.append(loop.run_until_complete(work))
        except BaseException as error:  # it is raised where the answer is waited for
            failed.append(error)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.close()  # does not wait for its executor's threads

    thread = threading.Thread(target=run, name="dials", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
