"""Django's session engine (`SESSION_ENGINE`) over `LoginSession`: it knows a session's user, and limits its life."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

STARTED: Final = "started"
ADDRESS: Final = "address"
BROWSER: Final = "browser"
SEEN: Final = "seen"


def row_key(session_key: str) -> str:
    """Return the key of the row that holds the session of this cookie."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


class SessionStore(DatabaseStore):
    """A session that ends after a time without a request, and at the latest a time after its log-in."""

    @classmethod
    def get_model_class(cls) -> Any:
        from nexusadmin.accounts.models.login_session import LoginSession

        return LoginSession

    # -- Django's, by the key of the row instead of the cookie's

    def _rows(self, session_key: str | None) -> Any:
        return self.model.objects.filter(session_key=row_key(session_key or ""))

    def _get_session_from_db(self) -> Any:
        found = self._rows(self.session_key).filter(expire_date__gt=timezone.now()).first()
        if found is None:
            self._session_key = None
        return found

    async def _aget_session_from_db(self) -> Any:
        return await sync_to_async(self._get_session_from_db)()

    def exists(self, session_key: str) -> bool:
        return bool(self._rows(session_key).exists())

    async def aexists(self, session_key: str) -> bool:
        return bool(await self._rows(session_key).aexists())

    def delete(self, session_key: str | None = None) -> None:
        self._rows(session_key or self.session_key).delete()

    async def adelete(self, session_key: str | None = None) -> None:
        await self._rows(session_key or self.session_key).adelete()

    # -- what the row says

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        started = data.get(STARTED)
        return self.get_model_class()(
            session_key=row_key(self._get_or_create_session_key()),  # type: ignore[attr-defined]
            session_data=self.encode(data),
            expire_date=self.get_expiry_date(),
            user_id=data.get(SESSION_KEY),
            started_at=None if started is None else datetime.fromtimestamp(started, UTC),
            seen_at=timezone.now(),
            address=data.get(ADDRESS) or None,
            browser=data.get(BROWSER, ""),
        )

    async def acreate_model_instance(self, data: dict[str, Any]) -> Any:
        return self.create_model_instance(data)

    # -- how long it lasts

    def get_expiry_age(self, **kwargs: Any) -> int:
        age = super().get_expiry_age(**kwargs)
        started = self.get(STARTED)
        if started is None:
            return age
        left = started + settings.SESSION_LONGEST - timezone.now().timestamp()
        return max(0, min(age, int(left)))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        return timezone.now() + timedelta(seconds=self.get_expiry_age(**kwargs))
