"""Programs that may print tokens: those that settings.CREDENTIAL_COMMANDS lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from relay.errors import InvalidValue
from tenants.models.credential import CredentialKind


def check_command(command: str) -> None:
    """Refuse a command that may not run.

    Raises:
        InvalidValue: it is not an absolute path, or not a listed one.
    """
    if not command.startswith("/"):
        raise InvalidValue(
            "credential command", command, "is not an absolute path", "write all of it, as in /usr/local/bin/attestor"
        )
    # None for any; without the setting no command runs.
    listed = getattr(settings, "CREDENTIAL_COMMANDS", ())
    if listed is not None and command not in listed:
        raise InvalidValue(
            "credential command",
            command,
            "is not among those that may run",
            "add it to the setting CREDENTIAL_COMMANDS of the admin and of the relays, or choose one that is listed",
        )


def may_run(command: str) -> bool:
    """Say whether a command may run."""
    try:
        check_command(command)
    except InvalidValue:
        return False
    return True


def check_commands(rows: Sequence[Any], using: str | None) -> None:
    """Refuse credentials whose command may not run; for `RegistryModel.check_rows`.

    One that is stored already may stay, so that a shorter list keeps no other edit from being saved: the bridge looks
    at it again, and no relay runs it.

    Raises:
        ValidationError: for ``command``.
    """
    problems: dict[int, str] = {}
    for place, row in enumerate(rows):
        if row.kind == CredentialKind.COMMAND and row.command:
            try:
                check_command(row.command)
            except InvalidValue as error:
                problems[place] = str(error)
    if not problems:
        return
    keys = [rows[place].pk for place in problems if rows[place].pk is not None]
    known = type(rows[0])._base_manager.using(using).filter(pk__in=keys, kind=CredentialKind.COMMAND)
    stored = dict(known.values_list("pk", "command")) if keys else {}
    for place, problem in problems.items():
        if stored.get(rows[place].pk) != rows[place].command:
            raise ValidationError({"command": problem})


def check_row(row: Any) -> None:
    """Refuse one credential likewise, before it is saved.

    Raises:
        ValidationError: for ``command``.
    """
    check_commands([row], row._state.db)
