"""Why a backend gets nothing, or refuses what it gets, in words."""

from __future__ import annotations

from collections.abc import Mapping

from relay.config import BackendConfig
from relay.config.access import Access
from relay.config.port_options import AccessList, AccessMode
from relay.config.targets import parse_targets
from relay.errors import InvalidValue
from relay.routing import RouteTable
from tenants.bridge.snapshot import backend_key
from tenants.models import Backend, BackendNode
from tenants.services.resolve.candidate import Candidate
from tenants.services.resolve.matching import DEFAULT_RULE, match_claims
from tenants.services.resolve.question import Question

MAX_PORTS = 10  # named in one reason


def why_closed(row: Backend, config: BackendConfig | None, problems: Mapping[str, str], using: str) -> str:
    """Return why no relay opens a session for the backend; empty where one does.

    Args:
        problems: why backends cannot be read, by `backend_key`.
    """
    if not row.tenant.enabled:
        return "Its tenant is disabled."
    if not row.enabled:
        return "It is disabled."
    if config is None:
        return f"No relay can read it: {problems.get(backend_key(row.pk), 'it is of another site')}."
    if not config.nodes:
        linked = BackendNode.objects.using(using).filter(backend=row).exists()
        return "All of its nodes are disabled." if linked else "It has no node."
    return ""


def why_nothing(asked: Question, candidate: Candidate, better: Mapping[str, str], *, live: bool) -> str:
    """Return why no node sends it streams.

    Args:
        better: by node, the more specific claim that another backend has there.
        live: the shares follow from live sessions.
    """
    match = match_claims(asked, candidate.wanted)
    answer = candidate.answer
    if candidate.closed:
        return candidate.closed
    if better:
        node, claim = next(iter(better.items()))
        return f"{claim} is more specific than its claim {match.claim if match else answer.claim}, at {node}."
    if match and live:
        return "It claims it, but no live session of it does: it has none, or its claims are older."
    configured = candidate.config.claims.hostnames if candidate.config is not None else ()
    if asked.hostname in configured or asked.wildcard in configured:
        return "Its hostname is not in its token: nodes send it nothing for that. Have a new token signed."
    if answer.rule not in ("", DEFAULT_RULE):
        return f"It routes {answer.rule}, but does not claim it: nodes send it nothing for that."
    return "It does not claim it."


def why_no_route(asked: Question, routes: RouteTable) -> str:
    """Return why there is no target for the connection."""
    mapped = [f"{each.transport} {each.port}" for each in routes]
    if routes.options(asked.port, asked.transport) is not None:
        return (
            f"Its mapping of {asked.transport} port {asked.port} has neither a host route that fits nor a default: "
            "there is no target."
        )
    if not mapped:
        return "It has no port mapping."
    return f"It maps {', '.join(mapped[:MAX_PORTS])}, and not {asked.transport} {asked.port}."


def why_undialable(targets: str) -> str:
    """Return why a relay cannot dial the targets of a route; empty where it can."""
    try:
        parse_targets(targets)
    except InvalidValue as error:
        return f"Its target cannot be dialled: {error}."
    return ""


def describe_access(asked: Question, rules: AccessList) -> tuple[str, str]:
    """Return what the access lists of a port say of the client, and the refusal; empty for none."""
    if not rules.allow and not rules.deny:
        return "every client is admitted", ""
    if asked.client is None:
        return f"it depends on the client ({rules.mode.value}): name a client address", ""
    address = asked.client.ip
    if Access(rules).admits(asked.client):
        return f"{address} is admitted", ""
    if rules.mode is AccessMode.OBSERVE:
        return f"{address} would be refused, and is admitted (observe)", ""
    return f"{address} is refused", f"Its access list does not admit {address}."
