"""The route tester: which backend, session and rule would get a user's connection, and why the others would not.

It uses the relay's own decisions (`RouteTable`, `Access`, `session_claims`) on what a relay is given, and chooses
between backends as a node does (`matching`, `shares`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from tenants.models import Backend
from tenants.services.relays.states import backend_states
from tenants.services.resolve.answer import Outcome, Resolution
from tenants.services.resolve.candidate import Candidate
from tenants.services.resolve.matching import DEFAULT_RULE, matching_rules
from tenants.services.resolve.notes import add_sessions, note_limits, note_token
from tenants.services.resolve.question import Question
from tenants.services.resolve.reasons import describe_access, why_closed, why_no_route, why_nothing, why_undialable
from tenants.services.resolve.shares import share_out
from tenants.services.resolve.stored import (
    MAX_BACKENDS,
    concerned_backends,
    live_sessions,
    relay_configs,
    session_row_claims,
)

_ORDER = {Outcome.SERVES: 0, Outcome.REFUSES: 1, Outcome.GETS_NOTHING: 2}


def resolve(asked: Question, *, user: Any = None, site: str | None = None, using: str = DEFAULT_DB_ALIAS) -> Resolution:
    """Return which backends would serve a connection.

    Args:
        user: only backends that the user may see are looked at, as if there were no others; None for all.
        site: of the relays that are asked about; None for each backend's own.
        using: alias of the database.
    """
    answer = Resolution(asked)
    rows: Any = Backend.objects.using(using)
    rows = rows.all() if user is None else rows.for_user(user)
    keys = concerned_backends(asked, rows)
    if len(keys) > MAX_BACKENDS:
        answer.notes.append(
            f"More than {MAX_BACKENDS} backends have to do with it: the answer is for the first {MAX_BACKENDS}."
        )
    found = list(
        rows.filter(pk__in=keys[:MAX_BACKENDS])
        .select_related("tenant", "credential")
        .prefetch_related("node_links__node")
    )
    states = backend_states(found, user, using)
    answer.configs, problems = relay_configs(found, site, using)
    sessions = live_sessions([row.pk for row in found], using)
    answer.live = any(sessions.values())
    candidates = []
    for row in found:
        config = answer.configs.get(row.pk)
        claimed = [(session, session_row_claims(session)) for session in sessions[row.pk]]
        candidates.append(Candidate(row, config, claimed, why_closed(row, config, problems, using)))
    for candidate in candidates:
        add_sessions(asked, candidate)
        note_token(candidate)
    for candidate in candidates:
        now = states[candidate.row.pk]
        candidate.answer.state, candidate.answer.state_since = str(now.state), now.since
        candidate.answer.problem = now.sentence
    beaten = share_out(asked, candidates, live=answer.live)
    for candidate in candidates:
        _judge(asked, candidate, beaten.get(candidate.row.pk, {}), live=answer.live)
    note_limits(candidates, using)
    answer.backends = [candidate.answer for candidate in candidates]
    answer.backends.sort(key=lambda each: (_ORDER[each.verdict], -max(each.shares.values(), default=0), each.key))
    if not answer.live and found:
        answer.notes.append("No relay reports a live session: this follows from the configuration alone.")
    if user is not None:
        answer.notes.append(
            "Only what you may see is looked at. A more specific hostname of another tenant would come first."
        )
    return answer


def _judge(asked: Question, candidate: Candidate, better: Mapping[str, str], *, live: bool) -> None:
    """Fill in where the relay would carry the connection, and the verdict."""
    answer, refusal = candidate.answer, _follow(asked, candidate)
    if not answer.shares:
        answer.why = why_nothing(asked, candidate, better, live=live)
    elif candidate.config is None:
        # Live sessions of a backend that is no longer served.
        answer.verdict = Outcome.SERVES
        answer.why = f"{candidate.closed} Its sessions serve until a quiet instant."
    elif refusal:
        answer.verdict, answer.why = Outcome.REFUSES, refusal
    else:
        answer.verdict = Outcome.SERVES


def _follow(asked: Question, candidate: Candidate) -> str:
    """Ask the relay's route table and access list; return why the connection is refused, empty where it is not."""
    config, answer = candidate.config, candidate.answer
    if config is None:
        return ""
    # A session that gets a stream by its port is not told the hostname.
    name = asked.claimed_port if answer.claim == asked.claimed_port else asked.hostname
    answer.rules = list(matching_rules(config.routes, asked, name))
    route = config.routes.match(asked.port, name, asked.transport)
    if route is None:
        return why_no_route(asked, config.routes)
    answer.rule, answer.targets = route.pattern or DEFAULT_RULE, route.targets
    answer.access, denied = describe_access(asked, route.options.access)
    return why_undialable(route.targets) or denied
