"""What else is worth knowing of a backend: its live sessions, its token, limits that are reached."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from relay.config import Claims
from relay.config.addresses import without_query
from tenants.models import CredentialKind
from tenants.services.resolve.answer import SessionAnswer
from tenants.services.resolve.candidate import Candidate
from tenants.services.resolve.matching import match_claims
from tenants.services.resolve.question import Question
from tenants.services.resolve.stored import tenant_streams


def add_sessions(asked: Question, candidate: Candidate) -> None:
    """Fill in the live sessions, and note where their claims differ from what a new one would claim."""
    wanted, answer = candidate.wanted.normalised(), candidate.answer
    for session, claims in candidate.sessions:
        answer.sessions.append(
            SessionAnswer(
                relay=str(session.relay),
                node=without_query(session.node),
                state=session.state,
                up_since=session.up_since,
                streams=session.streams,
                claims=match_claims(asked, claims) is not None,
                as_wanted=_comparable(claims) == _comparable(wanted),
                fingerprint=session.fingerprint,
                expires_at=session.expires_at,
            )
        )
    if any(not each.as_wanted for each in answer.sessions) and not candidate.closed:
        answer.notes.append("A live session claims something else than a new one would: it is being replaced.")


def _comparable(claims: Claims) -> tuple[Any, ...]:
    """Return what a node chooses by; a session's row holds no more of its claims."""
    ports = tuple(route.port for route in claims.udp_routes)
    return tuple(sorted(claims.hostnames)), claims.weight, tuple(sorted(claims.tcp_ports)), tuple(sorted(ports))


def note_token(candidate: Candidate) -> None:
    """Note where a pre-signed token has ended, or says something else than the backend."""
    credential = getattr(candidate.row, "credential", None)
    if credential is None or credential.kind != CredentialKind.PRESIGNED_TOKEN:
        return
    notes, ends = candidate.answer.notes, credential.valid_until
    if ends is not None and ends <= timezone.now():
        notes.append(f"Its token ended on {ends:%Y-%m-%d %H:%M} UTC: no new session is taken.")
    config = candidate.config
    if config is not None and config.claims.normalised() != candidate.wanted.normalised():
        notes.append("Its token claims something else than the backend: the token's claims count.")


def note_limits(candidates: Iterable[Candidate], using: str) -> None:
    """Note which stream limits are reached, by what the relays reported last."""
    concerned = [each for each in candidates if each.config is not None and each.sessions]
    by_tenant = tenant_streams((each.row.tenant_id for each in concerned if each.row.tenant.max_streams), using)
    for candidate in concerned:
        by_relay: dict[int, int] = defaultdict(int)
        for session, _ in candidate.sessions:
            by_relay[session.relay_id] += session.streams
        row = candidate.row
        for owner, most, streams in (
            ("It", row.max_streams, max(by_relay.values(), default=0)),
            ("Its tenant", row.tenant.max_streams, by_tenant.get(row.tenant_id, 0)),
        ):
            if most and streams >= most:
                candidate.answer.notes.append(
                    f"{owner} has {streams} live streams in one relay, and may have {most}: new ones are refused."
                )
