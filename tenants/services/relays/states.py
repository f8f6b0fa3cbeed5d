"""What is so now, apart from what is configured: the state of a backend and of a node, as relays report it.

Relays that have not been heard of lately are not believed: what only they carried has the state `State.UNREPORTED`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils import timezone

from tenants.changes.querysets import chunks
from tenants.models import Backend, BackendNode, NexusNode, RelayProcess, RelaySession, RelayTarget, RelayUplink

COUNTED: Final = 500
"""Backends of one state that are counted: where all are down the exact number is not needed at once."""

NAMED: Final = 20
"""Backends that are named on a node's page."""

NOTHING_REPORTED: Final = "None runs that carries it, or it was edited a moment ago."
NOT_TAKEN: Final = "The session from before an edit still serves; the newest configuration is not taken: "
NO_OUTCOME: Final = "The first attempt has no outcome yet."


class State(StrEnum):
    """What is so now."""

    UP = "up"
    DEGRADED = "degraded"
    """Some of its nodes or targets serve."""
    DOWN = "down"
    UNREPORTED = "no relay reports"
    OFF = "off"
    """Disabled: nothing is tried."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A backend at one of its nodes.

    Attributes:
        name, address: the node's.
        sentence: why it is not up, with the remedy; where it is, what a relay beside tells of.
        since: when it came up or was lost; None where no relay tells.
        attempts: how many failed since.
        next_try: None where none is due.
        relay: which tells it.
    """

    name: str
    address: str
    state: State
    sentence: str = ""
    since: datetime | None = None
    attempts: int = 0
    next_try: datetime | None = None
    relay: str = ""


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target that a relay does not reach."""

    target: str
    problem: str
    since: datetime
    relay: str


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend.

    Attributes:
        sentence: why it is not up, with the remedy; empty where it is.
        since: when that began; None where no relay tells.
        nodes: each enabled node that it should be at.
        targets: those that fail.
    """

    state: State
    sentence: str = ""
    since: datetime | None = None
    nodes: tuple[NodeState, ...] = ()
    targets: tuple[TargetState, ...] = ()


@dataclass(frozen=True, slots=True)
class _Session:
    relay: int
    since: datetime


def backend_states(
    backends: Iterable[Backend], user: Any = None, using: str = DEFAULT_DB_ALIAS
) -> dict[int, BackendState]:
    """Return the states by primary key, in three queries for up to some hundred backends.

    Args:
        backends: with their tenant, and with ``node_links__node`` prefetched.
        user: only what the user may see is told; None for all.
    """
    rows = list(backends)
    sessions: dict[int, dict[str, list[_Session]]] = defaultdict(lambda: defaultdict(list))
    uplinks: dict[int, dict[str, list[RelayUplink]]] = defaultdict(lambda: defaultdict(list))
    targets: dict[int, list[RelayTarget]] = defaultdict(list)
    for keys in chunks(sorted(row.pk for row in rows if _why_off(row) == "")):
        up = _seen(RelaySession, user, using).filter(backend__in=keys, state="up")
        for backend, node, relay, since in up.order_by().values_list("backend_id", "node", "relay_id", "up_since"):
            sessions[backend][node].append(_Session(relay, since))
        for row in _told_of(RelayUplink, keys, user, using):
            uplinks[row.backend_id][row.node].append(row)
        for row in _told_of(RelayTarget, keys, user, using):
            targets[row.backend_id].append(row)
    return {row.pk: _judge(row, sessions[row.pk], uplinks[row.pk], targets[row.pk]) for row in rows}


def _seen(model: Any, user: Any, using: str) -> Any:
    rows = model.objects.using(using).live()
    return rows if user is None else rows.for_user(user)


def _told_of(model: Any, keys: list[int], user: Any, using: str) -> Any:
    return _seen(model, user, using).filter(backend__in=keys).select_related("relay").order_by("since", "pk")


def _why_off(backend: Backend) -> str:
    if not backend.tenant.enabled:
        return "Its tenant is disabled."
    return "" if backend.enabled else "It is disabled."


def _judge(
    backend: Backend,
    sessions: Mapping[str, list[_Session]],
    uplinks: Mapping[str, list[RelayUplink]],
    troubled: list[RelayTarget],
) -> BackendState:
    if off := _why_off(backend):
        return BackendState(State.OFF, off)
    places = [link.node for link in backend.node_links.all() if link.node.enabled]
    if not places:
        return BackendState(State.DOWN, "It has no enabled node: add one, or enable one of its nodes.")
    nodes = tuple(_judge_node(node, sessions.get(node.address, []), uplinks.get(node.address, [])) for node in places)
    targets = tuple(TargetState(row.target, row.problem, row.since, str(row.relay)) for row in troubled)
    found = {node.state for node in nodes}
    bad = [node for node in nodes if node.state is not State.UP]
    if found == {State.UNREPORTED}:
        return BackendState(State.UNREPORTED, NOTHING_REPORTED, None, nodes)
    if found <= {State.DOWN, State.UNREPORTED}:
        since = max((node.since for node in bad if node.since is not None), default=None)
        return BackendState(State.DOWN, _sentence(bad, ()), since, nodes, targets)
    carrying = {session.relay for node in places for session in sessions.get(node.address, [])}
    if targets and carrying <= {row.relay_id for row in troubled if row.all_fail}:
        return BackendState(State.DOWN, _sentence((), targets), max(row.since for row in targets), nodes, targets)
    if bad or targets:
        begun = [node.since for node in bad if node.since is not None] + [row.since for row in targets]
        return BackendState(State.DEGRADED, _sentence(bad, targets), min(begun, default=None), nodes, targets)
    return BackendState(State.UP, "", max(node.since for node in nodes if node.since is not None), nodes)


def _judge_node(node: NexusNode, sessions: list[_Session], uplinks: list[RelayUplink]) -> NodeState:
    where = (node.name, node.address)
    told = max(uplinks, key=lambda row: (bool(row.problem), row.since), default=None)
    if sessions:
        refused = next((row for row in uplinks if row.state == State.UP), None)
        if refused is not None:
            sentence = f"{NOT_TAKEN}{refused.problem}"
            return _told(where, State.DEGRADED, refused, sentence)
        since = min(session.since for session in sessions)
        beside = f"Relay {told.relay} has no session: {told.problem or NO_OUTCOME}" if told is not None else ""
        return NodeState(*where, State.UP, beside, since)
    if told is None:
        return NodeState(*where, State.UNREPORTED, NOTHING_REPORTED)
    return _told(where, State.DOWN, told, told.problem or NO_OUTCOME)


def _told(where: tuple[str, str], state: State, row: RelayUplink, sentence: str) -> NodeState:
    next_try = row.next_try if row.next_try is not None and row.next_try > timezone.now() else None
    return NodeState(*where, state, sentence, row.since, row.attempts, next_try, str(row.relay))


def _sentence(nodes: Iterable[NodeState], targets: Iterable[TargetState]) -> str:
    said = [f"{node.name}: {node.sentence}" for node in nodes]
    said += [f"Target {row.target}: {row.problem}" for row in targets]
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return f"{said[0]}{more}" if said else ""


# -- many backends


@dataclass(frozen=True, slots=True)
class Troubled:
    """The enabled backends that are not up.

    Attributes:
        states: by primary key, the worst first; at most some times `COUNTED`.
        reported: some relay is alive.
        capped: there may be more.
    """

    states: Mapping[int, BackendState]
    reported: bool
    capped: bool

    def count(self, state: State) -> int:
        """Return how many have this state."""
        return sum(each.state is state for each in self.states.values())


_WORST: Final = {State.DOWN: 0, State.DEGRADED: 1, State.UNREPORTED: 2}


def troubled_backends(user: Any, using: str = DEFAULT_DB_ALIAS) -> Troubled:
    """Return the backends that the user may see and that are enabled, but not up.

    Its cost grows with what is wrong, and is bounded; that of one question, for what no relay tells of, with the
    backends. Where no relay is alive nothing is asked of them.
    """
    relays = list(RelayProcess.objects.using(using).filter(expires_at__gt=timezone.now()).values_list("pk", flat=True))
    if not relays:
        return Troubled({}, reported=False, capped=False)
    every: Any = Backend.objects.using(using)
    rows = (every if user is None else every.for_user(user)).filter(enabled=True, tenant__enabled=True).order_by("pk")
    capped = False
    keys: set[int] = set()
    for some in _candidates(rows, relays, using):
        found = list(some.values_list("pk", flat=True)[: COUNTED + 1])
        capped = capped or len(found) > COUNTED
        keys.update(found[:COUNTED])
    states: dict[int, BackendState] = {}
    for part in chunks(sorted(keys)):
        full = every.filter(pk__in=part).select_related("tenant").prefetch_related("node_links__node")
        states |= backend_states(full, user, using)
    bad = {pk: state for pk, state in states.items() if state.state in _WORST}
    ordered = sorted(bad.items(), key=lambda pair: (_WORST[pair[1].state], pair[0]))
    return Troubled(dict(ordered), reported=True, capped=capped)


def _candidates(rows: Any, relays: list[int], using: str) -> Iterable[QuerySet[Any]]:
    """Yield the backends of which something is told, then those of which nothing is, or too little."""
    uplinks = RelayUplink.objects.using(using).filter(relay__in=relays)
    targets = RelayTarget.objects.using(using).filter(relay__in=relays)
    for told in (uplinks, targets):
        yield rows.filter(pk__in=told.order_by().values("backend_id"))
    # By the index of backends: SQLite would take that of the few relays, and read all their sessions for each link.
    at_node = RelaySession.objects.using(using).annotate(by=F("relay_id") + 0)
    at_node = at_node.filter(
        by__in=relays, state="up", backend=OuterRef("backend"), node=OuterRef("node__address")
    ).order_by()
    links = BackendNode.objects.using(using).filter(node__enabled=True)
    yield rows.filter(pk__in=links.filter(~Exists(at_node)).order_by().values("backend_id"))
    yield rows.filter(~Exists(links.filter(backend=OuterRef("pk"))))


# -- nodes


def node_states(nodes: Iterable[NexusNode], user: Any, using: str = DEFAULT_DB_ALIAS) -> dict[int, tuple[State, str]]:
    """Return the state of each node by primary key, with how many of the user's backends are up there; two queries."""
    rows = list(nodes)
    addresses = [node.address for node in rows]
    number = Count("backend", distinct=True)
    up = _seen(RelaySession, user, using).filter(node__in=addresses, state="up", backend__enabled=True)
    ups = dict(up.order_by().values_list("node").annotate(number=number))
    down = _seen(RelayUplink, user, using).filter(node__in=addresses, backend__enabled=True)
    downs = dict(down.order_by().values_list("node").annotate(number=number))
    return {node.pk: _of_node(node, ups.get(node.address, 0), downs.get(node.address, 0)) for node in rows}


def _of_node(node: NexusNode, up: int, down: int) -> tuple[State, str]:
    if not node.enabled:
        return State.OFF, ""
    if not up and not down:
        return State.UNREPORTED, ""
    state = State.DOWN if not up else State.DEGRADED if down else State.UP
    return state, f"{up} up" + (f", {down} with a problem" if down else "")


def node_troubles(node: NexusNode, user: Any, using: str = DEFAULT_DB_ALIAS) -> list[RelayUplink]:
    """Return what relays tell of the user's backends that are not up at a node; some more than `NAMED` at most."""
    rows = _seen(RelayUplink, user, using).filter(node=node.address).select_related("relay", "backend__tenant")
    return list(rows.order_by("since", "pk")[: NAMED + 1])
