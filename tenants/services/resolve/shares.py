"""The shares of the new streams: at each node the most specific claims get all of them, by weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tenants.services.resolve.candidate import Candidate
from tenants.services.resolve.matching import ClaimMatch, match_claims
from tenants.services.resolve.question import Question


class _NodeSession(NamedTuple):
    match: ClaimMatch
    weight: int
    candidate: Candidate


def share_out(asked: Question, candidates: Iterable[Candidate], *, live: bool) -> dict[int, dict[str, str]]:
    """Fill in claim and shares of those that get streams.

    Args:
        live: by the live sessions; otherwise by those that would be opened.

    Returns:
        By primary key of a backend that has a less specific claim: the better claim, by node.
    """
    nodes: dict[str, list[_NodeSession]] = defaultdict(list)
    for candidate in candidates:
        for node, claims in candidate.node_claims(live):
            if match := match_claims(asked, claims):
                nodes[node].append(_NodeSession(match, claims.weight, candidate))
    beaten: dict[int, dict[str, str]] = defaultdict(dict)
    for node, sessions in nodes.items():
        best = min(session.match for session in sessions)
        total = sum(each.weight for each in sessions if each.match == best)
        for match, weight, candidate in sessions:
            answer = candidate.answer
            if match == best:
                answer.claim = match.claim
                answer.shares[node] = answer.shares.get(node, 0.0) + weight / total
            else:
                beaten[answer.key][node] = best.claim
    return beaten
