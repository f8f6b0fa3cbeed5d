"""Log-in session: which user is logged in where."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models


class LoginSession(AbstractBaseSession):
    """A session of a browser. The key that its cookie holds is stored as a hash only: no dump opens a session."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="login_sessions"
    )
    started_at = models.DateTimeField("since", null=True)
    seen_at = models.DateTimeField("last seen")
    address = models.GenericIPAddressField(null=True)
    browser = models.CharField(max_length=200, blank=True)

    class Meta(AbstractBaseSession.Meta):
        verbose_name = "log-in session"
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"session of {self.user or 'no user'}"

    @classmethod
    def get_session_store_class(cls) -> Any:
        from nexusadmin.accounts.session_store import SessionStore

        return SessionStore
