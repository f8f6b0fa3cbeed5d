"""Probes of the network before a configuration serves: targets that do not answer, hostnames without DNS.

From this machine, in parallel, and for a bounded time, whatever the file holds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target, parse_targets
from relay.configfile import ConfigDocument, Problem
from relay.configfile.problems import child
from relay.errors import InvalidValue
from relay.targets.dialing import Dialer
from tenants.bridge.dial import dial, run_apart

MOST: Final = 1_000
"""Targets, and hostnames, that are looked at; what is more is counted."""

AT_ONCE: Final = 50
RESOLVING_AT_ONCE: Final = 20
PROBE_DIAL_TIMEOUT: Final = 3.0
PROBE_TIMEOUT: Final = 20.0
"""Seconds for all targets together, and for all hostnames."""

_UNKNOWN: Final = frozenset(
    {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
)  # others are the resolver's own trouble

_T = TypeVar("_T")
_K = TypeVar("_K")


def probe(document: ConfigDocument, policies: Sequence[TargetPolicy] = ()) -> list[Problem]:
    """Return what does not answer, at its place in the file.

    Args:
        policies: of the tenant; what they do not permit is not dialled.
    """
    return run_apart(_probe(document, policies))


async def _probe(document: ConfigDocument, policies: Sequence[TargetPolicy]) -> list[Problem]:
    # A pool of its own: dead names must not keep those of the targets waiting.
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(RESOLVING_AT_ONCE, thread_name_prefix="names")
    loop.set_default_executor(pool)
    try:
        targets, names = await asyncio.gather(_targets(document, policies), _names(document))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [*targets, *names]


async def _targets(document: ConfigDocument, policies: Sequence[TargetPolicy]) -> list[Problem]:
    places = _target_places(document)
    dialer = Dialer(PROBE_DIAL_TIMEOUT)

    async def look(target: Target) -> str:
        return (await dial(dialer, target, PROBE_DIAL_TIMEOUT, policies)).problem

    problems, unseen = await _all(places, look, AT_ONCE)
    found = [
        document.problem(
            places[target],
            f"the target {target} does not answer from this machine ({problem}): start it, or correct it",
        )
        for target, problem in problems.items()
        if problem
    ]
    if unseen:
        found.append(document.problem("", f"{unseen} more targets were not dialled: the time or the number was over"))
    return found


def _target_places(document: ConfigDocument) -> dict[Target, str]:
    """Return each TCP target with its first place in the file."""
    places: dict[Target, str] = {}
    for index, backend in enumerate(document.backends):
        by_udp_alone = {route.port for route in backend.udp_routes} - set(backend.tcp_ports)
        for mapping in backend.port_mappings:
            if mapping.port in by_udp_alone:
                continue  # whether datagrams are answered cannot be known
            where = child(child(child("backends", index), "portMappings"), str(mapping.port))
            texts = [(child(where, "default"), mapping.default or "")]
            texts += [(child(child(where, "hosts"), pattern), targets) for pattern, targets in mapping.hosts]
            for place, text in texts:
                try:
                    targets = parse_targets(text) if text else ()
                except InvalidValue:
                    continue  # the reader has said so
                for target in targets:
                    places.setdefault(target, place)
    return places


async def _names(document: ConfigDocument) -> list[Problem]:
    places: dict[str, str] = {}
    for index, backend in enumerate(document.backends):
        for position, name in enumerate(backend.hostnames):
            if not name.startswith("*."):  # which names users ask for under a wildcard is theirs to know
                single = child(child("backends", index), "hostname")
                several = child(child(child("backends", index), "hostnames"), position)
                places.setdefault(name, single if single in document.positions else several)
    answers, unseen = await _all(places, _look_up, RESOLVING_AT_ONCE)
    found = [
        document.problem(places[name], f"the hostname {name} has no address in DNS: users do not find the node by it")
        for name, answer in answers.items()
        if answer == "none"
    ]
    silent = sum(answer == "silent" for answer in answers.values())
    if silent:
        found.append(document.problem("", f"the resolver gave no answer for {silent} of the hostnames"))
    if unseen:
        found.append(document.problem("", f"{unseen} more hostnames were not looked up: the time or number was over"))
    return found


async def _look_up(name: str) -> str:
    try:
        await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return "none" if error.errno in _UNKNOWN else "silent"
    except (OSError, ValueError):
        return "silent"
    return ""


async def _all(keys: Iterable[_K], look: Callable[[_K], Awaitable[_T]], at_once: int) -> tuple[dict[_K, _T], int]:
    """Look at each, some at a time; return what was found within the time, and how many were not looked at."""
    wanted = list(keys)
    places = asyncio.Semaphore(at_once)
    found: dict[_K, _T] = {}

    async def one(key: _K) -> None:
        async with places:
            found[key] = await look(key)

    tasks = [asyncio.create_task(one(key)) for key in wanted[:MOST]]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=PROBE_TIMEOUT)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    order = {key: found[key] for key in wanted if key in found}
    return order, len(wanted) - len(order)
