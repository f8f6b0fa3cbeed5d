"""What the registry does by itself, every so often: Celery's beat runs it, or `manage.py housekeeping` from cron.

A job may run late, twice or beside itself in another process, and must then do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.core.management import call_command
from django.utils.module_loading import import_string

from tenants.changes.actor import SYSTEM, acting

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    Attributes:
        name: for the command and the log.
        every: seconds between two runs.
        function: dotted path of what is called, without arguments; returns what it did, in words, or "".
    """

    name: str
    every: float
    function: str

    def run(self) -> str:
        """Do it; return what was done, in words."""
        with acting(user=None, name=f"job {self.name}", origin=SYSTEM, address=""):
            return str(import_string(self.function)() or "")


def clear_sessions() -> str:
    """Delete the log-in sessions that have expired."""
    call_command("clearsessions")
    return ""


JOBS: Final[tuple[Job, ...]] = (
    Job("rotation", 60.0, "tenants.services.tokens.promote.take_turns"),
    Job("expiry", HOUR, "tenants.services.tokens.expiry_notices.send_due"),
    Job("audit", DAY, "tenants.services.audit.journal.prune"),
    Job("domains", 900.0, "tenants.services.domains.recheck"),
    Job("revocations", DAY, "tenants.services.tokens.revocations.forget_expired"),
    Job("sessions", DAY, "tenants.housekeeping.clear_sessions"),
    Job("relays", HOUR / 6, "tenants.services.relays.reports.tidy_relays"),
    Job("usage", DAY, "tenants.services.relays.reports.prune_usage"),
)
"""In the order in which the command runs them."""


def job(name: str) -> Job:
    """Return the job of this name.

    Raises:
        LookupError: there is none.
    """
    for each in JOBS:
        if each.name == name:
            return each
    raise LookupError(f"There is no job {name!r}: choose one of {', '.join(each.name for each in JOBS)}.")
