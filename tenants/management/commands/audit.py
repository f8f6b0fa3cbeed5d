"""``manage.py audit``: the audit trail on the terminal, or as a file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from tenants.models import AuditEntry
from tenants.services.audit.presentation import FORMATS, export, summary

LISTED = 100


class Command(BaseCommand):
    """Arguments and output; `tenants.services.audit.presentation` does the work."""

    help = "List who changed what, the newest first, or write all of it to standard output as CSV or JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="only what belongs to this tenant, also one that is gone")
        parser.add_argument("--who", metavar="NAME", help="only what this user, account or job did")
        parser.add_argument("--model", metavar="MODEL", help="only rows of this kind, as in tenants.backend")
        parser.add_argument("--since", metavar="WHEN", help="from then on: 2026-11-01, or 2026-11-01T12:00 (UTC)")
        parser.add_argument("--until", metavar="WHEN", help="up to then, likewise")
        parser.add_argument("--format", choices=("text", *FORMATS), default="text")
        parser.add_argument(
            "--limit", type=int, metavar="N", help=f"the newest N only (text: {LISTED} where nothing is said)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        filters = {"tenant_slug": options["tenant"], "actor_name": options["who"], "model": options["model"]}
        entries = AuditEntry.objects.filter(**{name: value for name, value in filters.items() if value is not None})
        if options["since"]:
            entries = entries.filter(instant__gte=instant(options["since"]))
        if options["until"]:
            entries = entries.filter(instant__lt=instant(options["until"]))
        limit = options["limit"]
        if limit is not None and limit < 1:
            raise CommandError(f"--limit is {limit}: give the number of entries, 1 or more.")
        if options["format"] != "text":
            for text in export(entries if limit is None else entries[:limit], options["format"], None):
                self.stdout.write(text, ending="")
            return
        shown = list(entries[: (limit or LISTED) + 1])
        for entry in shown[: limit or LISTED]:
            place = f" from {entry.address}" if entry.address else ""
            tenant = f" [{entry.tenant_slug}]" if entry.tenant_slug else ""
            changes = summary(entry, None, most=sys.maxsize)
            self.stdout.write(
                f"{entry.instant:%Y-%m-%d %H:%M:%S}{tenant} {entry.actor_name} ({entry.origin}{place}) {entry.action} "
                f"{entry.model.partition('.')[2]} {entry.object_text}" + (f": {changes}" if changes else "")
            )
        if not shown:
            self.stdout.write("Nothing in the audit trail matches.")
        elif limit is None and len(shown) > LISTED:
            self.stdout.write(f"… and older ones (--limit shows more, --format {'|'.join(FORMATS)} all)")


def instant(text: str) -> datetime:
    """Return the instant that an option names.

    Raises:
        CommandError: it names none.
    """
    try:
        at = parse_datetime(text)
        if at is None and (day := parse_date(text)) is not None:
            at = datetime.combine(day, time())
    except ValueError:
        at = None
    if at is None:
        raise CommandError(f"{text!r} is no date: write it as in 2026-11-01 or 2026-11-01T12:00.")
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
