"""Log-in sessions: record their use, list and end them."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_in
from django.db.models import QuerySet
from django.db.models.signals import post_save
from django.http import HttpRequest
from django.utils import timezone

from nexusadmin.accounts.models.login_session import LoginSession
from nexusadmin.accounts.session_store import ADDRESS, BROWSER, SEEN, STARTED, row_key
from tenants.changes.actor import normal_address
from tenants.services.audit import journal

NOTE_EVERY: Final = 60.0
"""Seconds between two notes that a session is used; each is a write."""


def live(user: Any) -> QuerySet[LoginSession]:
    """Return the user's sessions that have not expired."""
    return LoginSession.objects.filter(user_id=user.pk, expire_date__gt=timezone.now())


def key_of(request: HttpRequest) -> str:
    """Return the key of the row of the request's own session."""
    return row_key(request.session.session_key or "")


def note_use(request: HttpRequest) -> None:
    """Keep the request's session alive, and note when it was seen."""
    session = request.session
    now = timezone.now().timestamp()
    if SESSION_KEY in session and not 0 <= now - session.get(SEEN, 0.0) < NOTE_EVERY:
        session[SEEN] = now


def end(user: Any, keys: list[str] | None = None, *, but: str = "") -> int:
    """End sessions of a user; return how many.

    Args:
        user: whose.
        keys: of the rows to end; None for all.
        but: the key of one that stays.
    """
    rows = live(user).exclude(pk=but)
    if keys is not None:
        rows = rows.filter(pk__in=keys)
    ended = rows.delete()[0]
    if ended:
        journal.record("sessions ended", user, changes={"number": ended})
    return ended


def _logged_in(sender: Any, request: HttpRequest | None, **_: Any) -> None:
    if request is None or not hasattr(request, "session"):
        return
    request.session[STARTED] = request.session[SEEN] = timezone.now().timestamp()
    request.session[ADDRESS] = normal_address(request.META.get("REMOTE_ADDR", ""))
    request.session[BROWSER] = "".join(
        each for each in request.headers.get("User-Agent", "")[:200] if each.isprintable()
    )


def _saved(sender: Any, instance: Any, **_: Any) -> None:
    # Set while a new password is being saved, and not where one is only hashed again. The session that changes its own
    # password gets a new row afterwards.
    if instance._password is not None:
        end(instance)


def connect() -> None:
    """Connect the receivers; called once when the application is ready."""
    user_logged_in.connect(_logged_in, dispatch_uid="accounts.login_sessions.logged_in")
    post_save.connect(_saved, sender=get_user_model(), dispatch_uid="accounts.login_sessions.saved")
