"""``manage.py import_config``: bring a tenant's backends into the state of a configuration file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from tenants.changes.actor import IMPORT, acting
from tenants.management.progress import progress_bar
from tenants.memory import without_garbage_collection
from tenants.models import Tenant
from tenants.rules.targets import tenant_policy
from tenants.services.config_import.tenant import DEFAULT_TENANT, UnknownTenant

# The reader of files is imported by what uses it, so that --help and mistakes in the arguments are answered at once.
if TYPE_CHECKING:
    from relay.configfile import ConfigDocument, Problem
    from tenants.services.config_import.importer import ImportSummary

LISTED = 200
"""Changes that are listed one by one; --verbosity 2 lists all."""


class Command(BaseCommand):
    """Arguments and output; `tenants.services.config_import.importer` does the work."""

    help = (
        "Create, change and (with --prune) remove a tenant's backends so that they are as a YAML file of the existing "
        "client says. All or nothing; a second run changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="configuration file of either generation")
        parser.add_argument(
            "--tenant", metavar="SLUG", help=f"an existing tenant (default: {DEFAULT_TENANT}, made if missing)"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="also remove the tenant's backends that are not in the file, and its hostnames that none then serves",
        )
        parser.add_argument(
            "--planned-at",
            type=int,
            metavar="NUMBER",
            help="the number that --dry-run gave: import nothing where somebody has changed the tenant's rows since",
        )
        parser.add_argument(
            "--probe",
            action=argparse.BooleanOptionalAction,
            default=None,
            help="also dial the targets and look the hostnames up, from this machine, and warn of those that do not "
            "answer (default: with --dry-run only)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from relay.configfile import ConfigFileError, read_config_file
        from tenants.services.config_import.importer import import_config
        from tenants.services.config_import.rule_warnings import rule_warnings

        file, dry_run = options["file"], options["dry_run"]
        quiet = options["verbosity"] == 0
        try:
            with without_garbage_collection(), progress_bar(quiet) as progress:
                progress("reading the file", 0, 0)
                document = read_config_file(file, allow_insecure=settings.ALLOW_INSECURE_NODES)
                progress("comparing with the registry", 0, 0)
                with acting(origin=IMPORT):
                    summary = import_config(
                        document,
                        tenant=options["tenant"],
                        prune=options["prune"],
                        dry_run=dry_run,
                        planned_at=options["planned_at"],
                        progress=progress,
                    )
        except ConfigFileError as error:
            number = len(error.problems)
            raise CommandError(
                f"{number} problem{'' if number == 1 else 's'} in {file}; the database is as it was:\n{error}"
            ) from None
        except UnknownTenant as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}): is it there, and migrated?") from None
        self._warn(document.warnings)
        self._warn(list(rule_warnings(document)))
        if not summary.tenant_enabled:
            self.stderr.write(
                f"warning: the tenant {summary.tenant} is disabled: nothing is served until it is enabled in the admin"
            )
        if dry_run if options["probe"] is None else options["probe"]:
            self._probe(document, options["tenant"] or DEFAULT_TENANT, quiet)
        if not quiet:
            self._print(summary, dry_run, len(summary.changes) if options["verbosity"] > 1 else LISTED)

    def _probe(self, document: ConfigDocument, tenant: str, quiet: bool) -> None:
        """Warn of what does not answer; none of it is an error."""
        from tenants.bridge.probes import probe

        owner = Tenant.objects.filter(slug=tenant).first() or Tenant(slug=tenant)
        with progress_bar(quiet) as progress:
            progress("dialling targets and looking hostnames up", 0, 0)
            try:
                found = probe(document, (tenant_policy(owner),))
            except Exception as error:
                self.stderr.write(f"warning: targets and hostnames could not be probed ({type(error).__name__})")
                return
        self._warn(found)

    def _warn(self, warnings: Sequence[Problem]) -> None:
        for warning in warnings[:LISTED]:
            self.stderr.write(f"warning: {warning}")
        if len(warnings) > LISTED:
            self.stderr.write(f"warning: … and {len(warnings) - LISTED} more of these")

    def _print(self, summary: ImportSummary, dry_run: bool, listed: int) -> None:
        for change in summary.changes[:listed]:
            self.stdout.write(f"  {change}")
        if len(summary.changes) > listed:
            self.stdout.write(f"  … and {len(summary.changes) - listed} more (--verbosity 2 lists all)")
        if summary.left:
            self.stdout.write(
                f"{summary.left} of the tenant's backends are not in the file and stay (--prune removes them)."
            )
        if not summary.changes:
            self.stdout.write(
                f"Nothing changed: all {summary.unchanged} backends of {summary.tenant} are as the file says."
            )
            return
        counts = ", ".join(
            f"{summary.count(action, 'backend')} {'to be ' if dry_run else ''}{word}"
            for action, word in (("create", "created"), ("change", "changed"), ("remove", "removed"))
        )
        self.stdout.write(f"Backends of {summary.tenant}: {counts}, {summary.unchanged} unchanged.")
        if dry_run:
            self.stdout.write(
                "This was a dry run: the database is as it was. To import this plan or nothing, add --planned-at "
                f"{summary.version}."
            )
