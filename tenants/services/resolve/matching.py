"""Which claim a node matches a connection to, and which rules of a port mapping match it. Reads no database.

A node takes the exact hostname before the wildcard, and that before the claimed port
(docs/protocol.md, "Several sessions for one hostname, and replacing one").
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from relay.config import Claims
from relay.routing import RouteTable
from tenants.services.resolve.answer import RuleAnswer
from tenants.services.resolve.question import Question

DEFAULT_RULE = "default"


class Specificity(IntEnum):
    """How closely a claim matches; the lowest wins."""

    EXACT = 0
    WILDCARD = 1
    PORT = 2


class ClaimMatch(NamedTuple):
    """A claim that a node matches the connection to."""

    specificity: Specificity
    claim: str


def match_claims(asked: Question, claims: Claims) -> ClaimMatch | None:
    """Return the claim by which a session with these claims is asked; None where no claim matches."""
    if asked.hostname in claims.hostnames:
        return ClaimMatch(Specificity.EXACT, asked.hostname)
    if asked.wildcard and asked.wildcard in claims.hostnames:
        return ClaimMatch(Specificity.WILDCARD, asked.wildcard)
    ports = claims.tcp_ports if asked.transport == "tcp" else [route.port for route in claims.udp_routes]
    return ClaimMatch(Specificity.PORT, asked.claimed_port) if asked.port in ports else None


def matching_rules(routes: RouteTable, asked: Question, hostname: str) -> Iterator[RuleAnswer]:
    """Yield the rules of the port that match, the one that is used first.

    Args:
        hostname: what the session is told: a hostname, or the claimed port.
    """
    mapping = next((each for each in routes if (each.transport, each.port) == (asked.transport, asked.port)), None)
    if mapping is None:
        return
    names = [hostname] if hostname == asked.claimed_port else [hostname, asked.wildcard]
    rules = [(name, mapping.hosts.get(name)) for name in names if name]
    rules.append((DEFAULT_RULE, mapping.default))
    used = routes.match(asked.port, hostname, asked.transport)
    chosen = "" if used is None else used.pattern or DEFAULT_RULE
    for name, targets in rules:
        if targets:
            yield RuleAnswer(name, targets, name == chosen, "" if name == chosen else f"{chosen} comes first")
