"""``manage.py rotate_keys``: re-encrypt every stored secret with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.management.progress import progress_bar

BATCH = 500  # rows read at once
LISTED = 20  # values that no key opens


class Command(BaseCommand):
    """Arguments and output; `tenants.services.encryption` does the work."""

    help = (
        "Re-encrypt every stored secret with the first key of FIELD_ENCRYPTION_KEYS. Everything may run meanwhile, "
        "and an interrupted run is simply started again. After it the old keys can leave the setting."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only count; exit code 1 where the old keys must stay")
        parser.add_argument(
            "--batch", type=int, default=BATCH, metavar="N", help="rows read at once (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from tenants.services.encryption import reencrypt

        if options["batch"] < 1:
            raise CommandError(f"--batch {options['batch']} is not a number of rows: give 1 or more")
        try:
            with progress_bar(quiet=options["verbosity"] == 0) as progress:
                found = reencrypt(check=options["check"], batch=options["batch"], progress=progress)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        would = "would be " if options["check"] else ""
        self.stdout.write(
            f"{found.total} stored secrets: {found.renewed} {would}re-encrypted, {found.done} were up to date."
        )
        for place in found.left[:LISTED]:
            self.stderr.write(f"no key opens {place}: it is left as it is")
        if len(found.left) > LISTED:
            self.stderr.write(f"and {len(found.left) - LISTED} more")
        if found.left:
            raise CommandError(
                f"{len(found.left)} secrets are opened by none of the keys: put the key that they were written with "
                "back into FIELD_ENCRYPTION_KEYS, or enter them again. The other old keys must stay until then."
            )
        if not options["check"]:
            self.stdout.write("Once every process has the first key, the others can leave FIELD_ENCRYPTION_KEYS.")
        elif found.renewed:
            raise CommandError("The old keys are still in use: run this without --check.")
        else:
            self.stdout.write("All keys but the first can leave FIELD_ENCRYPTION_KEYS.")
