"""The tester: which backend, session and rule would get a user's connection, with which share, and why the others not.

It asks what the relay asks (`RouteTable`, `Access`, `session_claims`) of what a relay is given, and chooses
as a node does: the exact hostname before the wildcard, that before the claimed port, by weight among equals
(PROTOCOL.md, "Several sessions for one hostname, and replacing one").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Sum
from django.utils import timezone

from relay.config import BackendConfig, Claims, UdpRoute
from relay.config.access import Access
from relay.config.addresses import check_port
from relay.config.client_address import ClientAddress, parse_client_address
from relay.config.hostnames import normalise_hostname
from relay.config.port_options import AccessMode
from relay.config.targets import parse_targets
from relay.errors import InvalidValue
from relay.routing import RouteTable, TransportName
from relay.tokens.sources import session_claims
from tenants.bridge.snapshot import Problem, backend_key, load_backends
from tenants.models import Backend, BackendNode, CredentialKind, RelaySession

MOST: Final = 100
"""Backends that are looked at; a hostname that more of them claim is answered for these."""

MOST_SESSIONS: Final = 1_000

SERVES: Final = "serves"
REFUSES: Final = "refuses"
LOSES: Final = "gets nothing"


@dataclass(frozen=True, slots=True)
class Question:
    """A user's connection.

    Attributes:
        hostname: in normal form; ``tcp:PORT`` or ``udp:PORT`` for a claimed port.
        client: whose; None where that is not asked.
    """

    hostname: str
    port: int
    transport: TransportName
    client: ClientAddress | None = None

    @property
    def wildcard(self) -> str:
        """The pattern whose ``*`` stands for the first label; empty where there can be none."""
        label, dot, parent = self.hostname.partition(".")
        return f"*.{parent}" if label and dot and label != "*" else ""

    @property
    def claimed_port(self) -> str:
        """What a session is asked for by the port alone."""
        return f"{self.transport}:{self.port}"


def question(host: str, port: object, client_ip: str = "", transport: str = "tcp") -> Question:
    """Read what a user asks.

    Raises:
        InvalidValue: it is no question.
    """
    if transport not in ("tcp", "udp"):
        raise InvalidValue("transport", transport, "is none", "write tcp or udp")
    number = check_port(port, "public port")
    if len(host) > 1024 or not host.isprintable():
        raise InvalidValue("hostname", host, "holds what no hostname does", "write a name such as app.example.com")
    name = normalise_hostname(host)
    kind, colon, claimed = name.partition(":")
    if colon and kind in ("tcp", "udp"):
        if kind != transport or claimed != str(number):
            what = f"write {transport}:{number}, or ask for that port"
            raise InvalidValue("hostname", host, "names another port than the one that is asked for", what)
    elif transport == "udp":
        name = f"udp:{number}"  # a datagram has no hostname: nodes go by the port
    client = None
    if client_ip:
        client = parse_client_address(client_ip.strip())
        if client is None:
            raise InvalidValue("client address", client_ip, "is no IP address", "write 203.0.113.9 or 2001:db8::1")
    return Question(name, number, transport, client)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """A live session, as its relay told of it.

    Attributes:
        claims: the session's claims hold what is asked for.
        as_wanted: the session claims what a new one would.
    """

    relay: str
    node: str
    state: str
    up_since: datetime
    streams: int
    claims: bool
    as_wanted: bool
    fingerprint: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """A rule of the backend's port mapping that fits the hostname; only the first is used."""

    rule: str
    targets: str
    used: bool
    why: str


@dataclass(slots=True)
class BackendAnswer:
    """What a backend has to do with the question.

    Attributes:
        verdict: `SERVES`, `REFUSES` (it gets streams, and its relay turns them away) or `LOSES`.
        why: of the verdict, in words; empty where it serves.
        claim: by which claim it gets streams; empty where by none.
        shares: of the new streams, by node, from 0 to 1.
        rule, targets: where its relay carries them.
        access: what the port's access lists say of the client.
        notes: what else is worth knowing: limits, tokens, sessions that are not as they should be.
    """

    tenant: str
    backend: str
    key: int
    verdict: str = LOSES
    why: str = ""
    claim: str = ""
    weight: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    rule: str = ""
    targets: str = ""
    access: str = ""
    rules: list[RuleAnswer] = field(default_factory=list)
    sessions: list[SessionAnswer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dials: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """The whole answer.

    Attributes:
        live: it follows from sessions that relays told of; else from the configuration alone.
        backends: those that serve first, then those that refuse, then the others.
        configs: what a relay would make of the backends, by primary key; not for showing.
    """

    question: Question
    live: bool = False
    backends: list[BackendAnswer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    configs: dict[int, BackendConfig] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> str:
        """Say in one line what happens."""
        asked = f"{self.question.hostname} at {self.question.transport} port {self.question.port}"
        serving = [each for each in self.backends if each.verdict == SERVES]
        refusing = [each for each in self.backends if each.verdict == REFUSES]
        if not serving and not refusing:
            return f"Nobody serves {asked}."
        names = ", ".join(f"{each.tenant}/{each.backend}" for each in serving or refusing)
        if not serving:
            return f"{asked} goes to {names}, where it is refused."
        some = " Some of its users are refused." if refusing else ""
        return f"{asked} is served by {names}.{some}"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        asked = self.question
        return {
            "hostname": asked.hostname,
            "port": asked.port,
            "transport": asked.transport,
            "client": str(asked.client.ip) if asked.client else None,
            "verdict": self.verdict,
            "live": self.live,
            "backends": [asdict(each) for each in self.backends],
            "notes": self.notes,
        }


def resolve(asked: Question, *, user: Any = None, site: str | None = None, using: str = DEFAULT_DB_ALIAS) -> Answer:
    """Say who would serve a connection.

    Args:
        user: whose tenants' backends are looked at; None for all. What is others' is as if it were not there.
        site: of the relays that are asked about; None for each backend's own.
    """
    answer = Answer(asked)
    rows: Any = Backend.objects.using(using)
    rows = rows.all() if user is None else rows.for_user(user)
    keys = _concerned(asked, rows)
    found = {row.pk: row for row in rows.filter(pk__in=keys[:MOST]).select_related("tenant", "credential")}
    if len(keys) > MOST:
        answer.notes.append(f"More than {MOST} backends have to do with it: the answer is for the first {MOST}.")
    problems: dict[str, str] = {}
    answer.configs = _configs(found.values(), site, using, problems)
    sessions = _sessions(list(found), using)
    answer.live = any(sessions.values())
    looks = [_Look(asked, row, answer.configs.get(row.pk), sessions[row.pk], problems, using) for row in found.values()]
    _share_out(looks, live=answer.live)
    _note_limits(looks, using)
    order = {SERVES: 0, REFUSES: 1, LOSES: 2}
    answer.backends = [look.answer for look in looks]
    answer.backends.sort(key=lambda each: (order[each.verdict], -max(each.shares.values(), default=0), each.key))
    if not answer.live and found:
        answer.notes.append("No relay tells of a live session: this follows from the configuration alone.")
    if user is not None:
        answer.notes.append(
            "Only what you may see is looked at. A more specific hostname of somebody else's would come first."
        )
    return answer


def _concerned(asked: Question, rows: Any) -> list[int]:
    """Return the backends that claim it or route it, and those whose live sessions do."""
    names = [asked.hostname, *filter(None, [asked.wildcard])]
    # One after the other: no index serves a choice between two tables.
    conditions: tuple[dict[str, Any], ...] = (
        {"hostname_links__hostname__name__in": names},
        {"port_claims__transport": asked.transport, "port_claims__public_port": asked.port},
        {"port_mappings__host_routes__pattern__in": names},
    )
    found: dict[int, None] = {}
    for condition in conditions:
        some = rows.filter(**condition).order_by("pk").values_list("pk", flat=True).distinct()
        found |= dict.fromkeys(some[: MOST + 1])
    return list(found)


def _configs(
    rows: Iterable[Backend], site: str | None, using: str, problems: dict[str, str]
) -> dict[int, BackendConfig]:
    """Return the backends as a relay of the site gets them; those that it does not get are left out."""
    by_site: dict[str | None, list[int]] = defaultdict(list)
    for row in rows:
        by_site[(row.site or None) if site is None else site].append(row.pk)

    def report(problem: Problem) -> None:
        problems[problem.key] = problem.message

    found: dict[int, BackendConfig] = {}
    for of, keys in by_site.items():
        configs = load_backends(keys, of, using=using, report=report)
        found |= {key: config for key in keys if (config := configs[backend_key(key)]) is not None}
    return found


def _sessions(keys: list[int], using: str) -> dict[int, list[RelaySession]]:
    found: dict[int, list[RelaySession]] = {key: [] for key in keys}
    rows: Any = RelaySession.objects.using(using).live().filter(backend__in=keys).select_related("relay")
    for row in rows.order_by("up_since")[:MOST_SESSIONS]:
        found[row.backend_id].append(row)
    return found


class _Look:
    """One backend, looked at."""

    def __init__(
        self,
        asked: Question,
        row: Backend,
        config: BackendConfig | None,
        sessions: list[RelaySession],
        problems: Mapping[str, str],
        using: str,
    ) -> None:
        self.asked, self.row, self.config, self._using = asked, row, config, using
        self.answer = BackendAnswer(row.tenant.slug, row.name, row.pk, weight=row.weight)
        self.sessions = [(session, _claims_of(session)) for session in sessions]
        self.wanted = Claims()
        self.cause = self._cause(problems)
        if config is not None:
            try:
                self.wanted = session_claims(config)
            except InvalidValue as error:
                self.cause = self.cause or f"It opens no session: {error}."
            self.answer.weight = self.wanted.weight
        self._note_sessions()

    def _cause(self, problems: Mapping[str, str]) -> str:
        """Return why no relay opens a session; empty where one does."""
        row = self.row
        if not row.tenant.enabled:
            return "Its tenant is disabled."
        if not row.enabled:
            return "It is disabled."
        if self.config is None:
            return f"No relay can read it: {problems.get(backend_key(row.pk), 'it is of another site')}."
        if not self.config.nodes:
            linked = BackendNode.objects.using(self._using).filter(backend=row).exists()
            return "All of its nodes are disabled." if linked else "It has no node."
        return ""

    # -- what its relay does

    def follow(self) -> None:
        """Ask the relay's own table, and the access list."""
        config, asked, answer = self.config, self.asked, self.answer
        if config is None:
            return
        # Who gets a stream by its port is not told the hostname.
        name = asked.claimed_port if answer.claim == asked.claimed_port else asked.hostname
        route = config.routes.match(asked.port, name, asked.transport)
        answer.rules = list(_rules(config.routes, asked, name))
        if route is None:
            self.refusal = self._no_route(config.routes)
            return
        answer.rule, answer.targets, self.refusal = route.pattern or "default", route.targets, ""
        try:
            parse_targets(route.targets)
        except InvalidValue as error:
            self.refusal = f"Its target can not be dialled: {error}."
        rules = route.options.access
        if not rules.allow and not rules.deny:
            answer.access = "everybody is let in"
        elif asked.client is None:
            answer.access = f"it depends on who comes ({rules.mode.value}): name a client address"
        elif Access(rules).admits(asked.client):
            answer.access = f"{asked.client.ip} is let in"
        elif rules.mode is AccessMode.OBSERVE:
            answer.access = f"{asked.client.ip} would be refused, and is let in (observe)"
        else:
            answer.access = f"{asked.client.ip} is refused"
            self.refusal = self.refusal or f"Its access list does not admit {asked.client.ip}."

    refusal = ""

    def _no_route(self, routes: RouteTable) -> str:
        asked = self.asked
        mapped = [f"{each.transport} {each.port}" for each in routes]
        if routes.options(asked.port, asked.transport) is not None:
            return (
                f"Its mapping of {asked.transport} port {asked.port} has neither a host route that fits nor a default: "
                "there is no target."
            )
        if not mapped:
            return "It has no port mapping."
        return f"It maps {', '.join(mapped[:10])}, and not {asked.transport} {asked.port}."

    # -- what a node does

    def claim(self, claims: Claims) -> tuple[int, str]:
        """Return the rank (0 is best) and the claim by which such a session is asked; 3 and empty for none."""
        asked = self.asked
        if asked.hostname in claims.hostnames:
            return 0, asked.hostname
        if asked.wildcard and asked.wildcard in claims.hostnames:
            return 1, asked.wildcard
        ports = claims.tcp_ports if asked.transport == "tcp" else [route.port for route in claims.udp_routes]
        return (2, asked.claimed_port) if asked.port in ports else (3, "")

    def entries(self, live: bool) -> Iterable[tuple[str, Claims]]:
        """Yield node and claims of each session that it has, or would have."""
        if live:
            for session, claims in self.sessions:
                yield session.node, claims
        elif not self.cause and self.config is not None:
            for node in self.config.nodes:
                yield node.address, self.wanted

    def not_chosen(self, live: bool, others: Mapping[str, str]) -> str:
        """Say why it gets nothing.

        Args:
            others: at its nodes, the better claims that others have.
        """
        rank, claim = self.claim(self.wanted)
        if self.cause:
            return self.cause
        if others:
            node, better = next(iter(others.items()))
            return f"{better} is more specific than its claim {claim or self.answer.claim}, at {node}."
        if rank < 3 and live:
            return "It claims it, but no live session of it does: it has none, or its claims are older."
        if any(link == self.asked.hostname or link == self.asked.wildcard for link in self._names()):
            return "Its hostname is not in its token: nodes send it nothing for that. Have the token signed anew."
        if self.answer.rule not in ("", "default"):
            return f"It routes {self.answer.rule}, but does not claim it: nodes send it nothing for that."
        return "It does not claim it."

    def _names(self) -> list[str]:
        return list(self.config.claims.hostnames) if self.config is not None else []

    def _note_sessions(self) -> None:
        wanted = self.wanted.normalised()
        for session, claims in self.sessions:
            self.answer.sessions.append(
                SessionAnswer(
                    relay=str(session.relay),
                    node=session.node,
                    state=session.state,
                    up_since=session.up_since,
                    streams=session.streams,
                    claims=self.claim(claims)[0] < 3,
                    as_wanted=_comparable(claims) == _comparable(wanted),
                    fingerprint=session.fingerprint,
                    expires_at=session.expires_at,
                )
            )
        if any(not each.as_wanted for each in self.answer.sessions) and not self.cause:
            self.answer.notes.append("A live session claims something else than a new one would: it is being replaced.")
        credential = getattr(self.row, "credential", None)
        if credential is not None and credential.kind == CredentialKind.PRESIGNED_TOKEN:
            ends = credential.valid_until if hasattr(credential, "valid_until") else credential.claims_expires_at
            if ends is not None and ends <= timezone.now():
                self.answer.notes.append(f"Its token ended on {ends:%Y-%m-%d %H:%M} UTC: no new session is taken.")
            if self.config is not None and self.config.claims.normalised() != wanted:
                self.answer.notes.append("Its token claims something else than the backend: what the token says rules.")


def _rules(routes: RouteTable, asked: Question, hostname: str) -> Iterable[RuleAnswer]:
    """Yield the rules of the port that fit, the one that is used first."""
    mapping = next((each for each in routes if (each.transport, each.port) == (asked.transport, asked.port)), None)
    if mapping is None:
        return
    names = [hostname] if hostname == asked.claimed_port else [hostname, asked.wildcard]
    fitting = [(name, mapping.hosts.get(name)) for name in names if name]
    fitting.append(("default", mapping.default))
    used = routes.match(asked.port, hostname, asked.transport)
    chosen = "" if used is None else used.pattern or "default"
    for name, targets in fitting:
        if targets:
            why = "" if name == chosen else f"{chosen} comes first"
            yield RuleAnswer(name, targets, name == chosen, why)


def _claims_of(session: RelaySession) -> Claims:
    """Return the claims of a live session; what is not as a relay writes it counts as none."""
    told = session.claims if isinstance(session.claims, dict) else {}

    def listed(name: str) -> list[Any]:
        value = told.get(name)
        return value if isinstance(value, list) else []

    weight = told.get("weight")
    return Claims(
        hostnames=tuple(map(str, listed("hostnames"))),
        weight=weight if isinstance(weight, int) and weight > 0 else 1,
        tcp_ports=tuple(port for port in listed("tcp_ports") if isinstance(port, int)),
        udp_routes=tuple(UdpRoute(port) for port in listed("udp_ports") if isinstance(port, int)),
    )


def _comparable(claims: Claims) -> tuple[Any, ...]:
    ports = tuple(route.port for route in claims.udp_routes)
    return tuple(sorted(claims.hostnames)), claims.weight, tuple(sorted(claims.tcp_ports)), tuple(sorted(ports))


def _share_out(looks: list[_Look], *, live: bool) -> None:
    """Choose at each node as it does, and say why the others get nothing."""
    nodes: dict[str, list[tuple[int, str, int, _Look]]] = defaultdict(list)
    for look in looks:
        for node, claims in look.entries(live):
            rank, claim = look.claim(claims)
            if rank < 3:
                nodes[node].append((rank, claim, claims.weight, look))
    beaten: dict[int, dict[str, str]] = defaultdict(dict)
    for node, entries in nodes.items():
        best = min(rank for rank, *_ in entries)
        total = sum(weight for rank, _, weight, _ in entries if rank == best)
        better = next(claim for rank, claim, *_ in entries if rank == best)
        for rank, claim, weight, look in entries:
            answer = look.answer
            if rank == best:
                answer.claim = claim
                answer.shares[node] = answer.shares.get(node, 0.0) + weight / total
            else:
                beaten[answer.key][node] = better
    for look in looks:
        look.follow()
        answer = look.answer
        if not answer.shares:
            answer.why = look.not_chosen(live, beaten[answer.key])
        elif look.config is None:
            # Sessions that still live of a backend that is not served any more.
            answer.verdict, answer.why = REFUSES, f"{look.cause} Its sessions are on their way out."
        elif look.refusal:
            answer.verdict, answer.why = REFUSES, look.refusal
        else:
            answer.verdict = SERVES


def _note_limits(looks: list[_Look], using: str) -> None:
    """Say which limits are reached, by the live streams that relays told of last."""
    concerned = [look for look in looks if look.config is not None and look.sessions]
    tenants = {look.row.tenant_id for look in concerned if look.row.tenant.max_streams}
    sums: dict[int, int] = {}
    if tenants:
        rows: Any = RelaySession.objects.using(using).live().filter(backend__tenant__in=tenants).order_by()
        for tenant, _, streams in rows.values_list("backend__tenant", "relay").annotate(n=Sum("streams")):
            sums[tenant] = max(sums.get(tenant, 0), streams)
    for look in concerned:
        by_relay: dict[int, int] = defaultdict(int)
        for session, _ in look.sessions:
            by_relay[session.relay_id] += session.streams
        tenant = look.row.tenant
        for whose, most, streams in (
            ("It", look.row.max_streams, max(by_relay.values(), default=0)),
            ("Its tenant", tenant.max_streams, sums.get(look.row.tenant_id, 0)),
        ):
            if most and streams >= most:
                look.answer.notes.append(
                    f"{whose} has {streams} live streams in one relay, and may have {most}: new ones are refused."
                )
