"""Receivers that record log-ins, log-outs, and changes of users, groups and permissions in the audit trail."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

from nexusadmin.accounts.tracking import track
from tenants.changes.actor import acting
from tenants.changes.fingerprints import fingerprint
from tenants.changes.record_rules import RecordRules
from tenants.services.audit import journal


def logged_in(sender: Any, user: Any, **_: Any) -> None:
    """Record a log-in."""
    with acting(user=user):
        journal.record("logged in", user)


def logged_out(sender: Any, user: Any, **_: Any) -> None:
    """Record a log-out; a session without a user leaves no entry."""
    if user is not None:
        with acting(user=user):
            journal.record("logged out", user)


def login_failed(sender: Any, credentials: Any, request: Any = None, **_: Any) -> None:
    """Record a failed log-in. An unknown name may be a password in the wrong field, so only its fingerprint is kept.

    Attempts that django-axes refuses because their sender is locked out are not recorded: strangers could fill the
    trail with them.
    """
    if getattr(request, "axes_locked_out", False) and request.axes_failures_since_start is None:
        return
    model = get_user_model()
    name = str(credentials.get(model.USERNAME_FIELD) or credentials.get("username") or "")
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first() if "\0" not in name else None
    with acting(user=None, name="nobody"):
        if user is None:
            journal.record("log-in failed", text=f"an unknown name, with fingerprint {fingerprint(name)}")
        else:
            journal.record("log-in failed", user)


def connect() -> None:
    """Connect the receivers; called once when the application is ready."""
    track(get_user_model(), RecordRules(ignored=frozenset({"last_login"}), hidden=frozenset({"password"})))
    track(Group, RecordRules())
    track(Permission, RecordRules())
    user_logged_in.connect(logged_in, dispatch_uid="accounts.logged_in")
    user_logged_out.connect(logged_out, dispatch_uid="accounts.logged_out")
    user_login_failed.connect(login_failed, dispatch_uid="accounts.login_failed")
