"""A live session as the registry holds it: its row, and whether a change of it is worth writing whole."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.config import Claims, Credential, HmacSecret, PresignedToken
from relay.errors import InvalidValue
from relay.tokens.claims import parse_claims
from tenants.changes.fingerprints import fingerprint
from tenants.services.relays.reports import SMALL_FIELDS, ReportedRow


@dataclass(slots=True)
class ReportedSession:
    """A live session, and what was reported of it.

    Attributes:
        state: the row as it is now.
        secret, claimed: what `state` was made from, so that costly parts are made once.
        written: the row as it was last written.
        used_at: when the token was sent whose use is written, by the loop's clock.
    """

    id: uuid.UUID
    up_since: datetime
    state: ReportedRow | None = None
    secret: Credential | None = None
    claimed: Claims | None = None
    fingerprint: str = ""
    expires_at: datetime | None = None
    written: ReportedRow | None = None
    used_at: float | None = None

    def describe(self, pk: int, fields: dict[str, Any], credential: Credential | None) -> None:
        """Make the row; costly, so it is called in the database's thread.

        Args:
            pk: of the backend.
            fields: the row's, with the `Claims` in place of their JSON.
            credential: what the session authenticated with.
        """
        if self.state is None or self.secret is not credential:
            self.secret = credential
            self.fingerprint, self.expires_at = _token_facts(credential)
        claims = fields["claims"].to_json() if self.state is None or self.claimed is not fields["claims"] else None
        self.claimed = fields["claims"]
        described = {
            **fields,
            # The very same where they are: they can be long, and are written again only where they differ.
            "claims": self.state.fields["claims"] if claims is None and self.state is not None else claims,
            "expires_at": self.expires_at,
            "fingerprint": self.fingerprint,
        }
        self.state = ReportedRow(self.id, pk, described)


def is_small_change(old: ReportedRow | None, new: ReportedRow) -> bool:
    """Return whether only what changes all the time differs from what is written."""
    return old is not None and all(
        value is old.fields[name] or (name != "claims" and value == old.fields[name])
        for name, value in new.fields.items()
        if name not in SMALL_FIELDS
    )


def _token_facts(credential: Credential | None) -> tuple[str, datetime | None]:
    """Return a credential's fingerprint, and when its token expires; empty and None for what has neither."""
    match credential:
        case PresignedToken(token=token):
            try:
                expires = parse_claims(token).expires_at
            except InvalidValue:
                expires = None
            return fingerprint(token), None if expires is None else _instant(expires)
        case HmacSecret(secret=secret):
            return fingerprint(secret), None
    return "", None


def _instant(seconds: float) -> datetime | None:
    """Return an instant; None for one that no calendar holds."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
