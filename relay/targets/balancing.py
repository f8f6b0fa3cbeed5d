"""Which of a route's targets a stream tries, and in which order."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from relay.config.port_options import PortOptions, ProxyProtocol, TargetOrder
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target, parse_targets
from relay.connect_handler import ConnectRequest, Dial
from relay.errors import InvalidValue
from relay.routing import Route, RouteTable
from relay.targets.dialing import Dialer
from relay.targets.health import Check, HealthChecks

REMEMBERED: Final = 65536
"""Routes whose turn is remembered, and texts of targets that are kept read, at a time."""


@dataclass(frozen=True, slots=True)
class RoutedDial(Dial):
    """A `Dial` that came from the route table, not from a connect handler."""


_targets = lru_cache(maxsize=REMEMBERED)(parse_targets)


@lru_cache(maxsize=REMEMBERED)
def _dial(targets: str, timeout: float, proxy_protocol: ProxyProtocol) -> RoutedDial:
    return RoutedDial(_targets(targets), timeout, proxy_protocol)


class Balancer:
    """Puts the targets of one backend's routes into order, stream by stream.

    * Those that their health checks found down are left out, unless all are: then all are tried.
    * Those that failed a dial just now come last.
    * The others come in their order, or take turns. Turns are kept for each route, whatever is edited.
    """

    def __init__(
        self, dialer: Dialer, health: HealthChecks, policies: Callable[[], tuple[TargetPolicy, ...]] = tuple
    ) -> None:
        self._dialer = dialer
        self._health = health
        self._policies = policies
        self._turns: dict[tuple[str, int, str], int] = {}

    def dial(self, request: ConnectRequest, route: Route) -> RoutedDial:
        """Return how the target of a stream is dialled.

        Raises:
            InvalidValue: the route's text names no targets.
        """
        options = route.options
        dial = _dial(route.targets, options.dial_timeout, options.proxy_protocol)
        if len(dial.targets) == 1:
            return dial  # without a choice there is nothing to take out, nor to remember
        targets = self._usable(dial.targets, options)
        if options.target_order is TargetOrder.ROUND_ROBIN and len(targets) > 1:
            targets = self._in_turn((request.transport, request.port, route.pattern), targets)
        if targets is dial.targets:
            return dial
        return RoutedDial(tuple(targets), dial.timeout, dial.proxy_protocol)

    def _usable(self, targets: Sequence[Target], options: PortOptions) -> Sequence[Target]:
        settings = options.target_health
        if not settings.interval:
            return targets
        policies = self._policies()
        return [target for target in targets if self._health.is_up(target, settings, policies)] or targets

    def _in_turn(self, route: tuple[str, int, str], targets: Sequence[Target]) -> Sequence[Target]:
        # Turns go round among the good ones alone: else the next in line would serve the share of each bad one.
        bad = [target for target in targets if self._dialer.failed_lately(target)]
        good = [target for target in targets if target not in bad] if bad else targets
        if len(self._turns) >= REMEMBERED:
            self._turns.clear()
        # Where to begin is left to chance: many routes with few streams would all begin with their first target.
        turn = self._turns.get(route, random.randrange(REMEMBERED))
        self._turns[route] = turn + 1
        start = turn % len(good) if good else 0
        return [*good[start:], *good[:start], *bad]


def checks_of(routes: RouteTable, policies: tuple[TargetPolicy, ...] = ()) -> Iterator[Check]:
    """Yield what a route table wants checked: also a route's only target, which is never taken out, but watched.

    Args:
        policies: which must permit the checks.
    """
    for mapping in routes:
        settings = mapping.options.target_health
        if not settings.interval:
            continue
        for text in {*mapping.hosts.values(), mapping.default or ""} - {""}:
            # A text that names no targets fails the dials of its own streams, in words, and nothing else.
            with contextlib.suppress(InvalidValue):
                for target in _targets(text):
                    yield target, settings, policies
