"""A backend that may serve the connection: what a node and its relay know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relay.config import BackendConfig, Claims
from relay.errors import InvalidValue
from relay.tokens.sources import session_claims
from tenants.models import Backend, RelaySession
from tenants.services.resolve.answer import BackendAnswer


@dataclass(slots=True)
class Candidate:
    """A backend, and what is found out about it.

    Attributes:
        config: what a relay makes of it; None where no relay gets it.
        sessions: its live sessions with their claims.
        closed: why no relay opens a session for it; empty where one does.
        wanted: what a new session would claim.
        answer: filled in step by step.
    """

    row: Backend
    config: BackendConfig | None
    sessions: Sequence[tuple[RelaySession, Claims]]
    closed: str
    wanted: Claims = field(init=False, default_factory=Claims)
    answer: BackendAnswer = field(init=False)

    def __post_init__(self) -> None:
        self.answer = BackendAnswer(self.row.tenant.slug, self.row.name, self.row.pk, weight=self.row.weight)
        if self.config is None:
            return
        try:
            self.wanted = session_claims(self.config)
        except InvalidValue as error:
            self.closed = self.closed or f"It opens no session: {error}."
        self.answer.weight = self.wanted.weight

    def node_claims(self, live: bool) -> Iterator[tuple[str, Claims]]:
        """Yield node and claims of each session that it has (live), or would have."""
        if live:
            for session, claims in self.sessions:
                yield session.node, claims
        elif not self.closed and self.config is not None:
            for node in self.config.nodes:
                yield node.address, self.wanted
