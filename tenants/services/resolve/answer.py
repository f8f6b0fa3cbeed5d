"""The route tester's answer, as values for a page, a terminal and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from relay.config import BackendConfig
from relay.config.addresses import without_query
from tenants.services.relays.states import State
from tenants.services.resolve.question import Question

_NOT_NOW = (State.DOWN, State.UNREPORTED)


class Outcome(StrEnum):
    """What a backend does with the connection."""

    SERVES = "serves"
    REFUSES = "refuses"
    """It gets streams, and its relay refuses them."""

    GETS_NOTHING = "gets nothing"


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """A live session, as its relay reported it.

    Attributes:
        claims: the session claims what is asked for.
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
    """A rule of the backend's port mapping that matches the hostname; only one is used.

    Attributes:
        rule: the pattern, or "default".
        why: why it is not used; empty where it is.
    """

    rule: str
    targets: str
    used: bool
    why: str


@dataclass(slots=True)
class BackendAnswer:
    """What a backend has to do with the question.

    Attributes:
        tenant: slug.
        key: the backend's primary key.
        verdict: what it does with the connection.
        why: the reason for the verdict, in words; empty where it serves.
        claim: the claim by which it gets streams; empty where it gets none.
        shares: of the new streams, by node, from 0 to 1.
        rule, targets: where its relay carries them.
        access: what the port's access lists say of the client.
        notes: what else is worth knowing: limits, tokens, sessions that differ from what is configured.
        state, state_since: what is so now, as `tenants.services.relays.states` has it; empty and None where not asked.
        problem: why it is not up; empty where it is.
        dials: `tenants.bridge.dial.DialAnswer`s, where the targets were dialled.
    """

    tenant: str
    backend: str
    key: int
    verdict: Outcome = Outcome.GETS_NOTHING
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
    state: str = ""
    state_since: datetime | None = None
    problem: str = ""
    dials: list[Any] = field(default_factory=list)

    @property
    def is_so_now(self) -> bool:
        """The verdict is what happens, and not what would happen if the backend were up."""
        return self.state not in _NOT_NOW

    @property
    def shown_shares(self) -> list[tuple[str, float]]:
        """The shares with the nodes' addresses as they are shown."""
        return [(without_query(node), share) for node, share in self.shares.items()]

    @property
    def shown(self) -> str:
        """What it does with the connection, or would."""
        return "would serve" if self.verdict is Outcome.SERVES and not self.is_so_now else str(self.verdict)


@dataclass(slots=True)
class Resolution:
    """The whole answer.

    Attributes:
        live: it follows from sessions that relays reported; otherwise from the configuration alone.
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
        """What happens now, in one line."""
        serving = [each for each in self.backends if each.verdict is Outcome.SERVES]
        refusing = [each for each in self.backends if each.verdict is Outcome.REFUSES]
        if not serving and not refusing:
            return f"No backend serves {self.question}."
        names = ", ".join(f"{each.tenant}/{each.backend}" for each in serving or refusing)
        if not serving:
            return f"{self.question} goes to {names}, where it is refused."
        if not any(each.is_so_now for each in serving):
            if any(each.state == State.DOWN for each in serving):
                return f"{self.question} is not served now: {names} would serve it, and is down."
            return f"{self.question} would be served by {names}, as configured: no relay reports whether it is."
        some = " Some of its users are refused." if refusing else ""
        return f"{self.question} is served by {names}.{some}"

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
