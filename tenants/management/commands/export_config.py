"""``manage.py export_config``: write a tenant's backends as a configuration file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from tenants.services.config_import.tenant import DEFAULT_TENANT, UnknownTenant


class Command(BaseCommand):
    """Arguments and output; `tenants.services.config_import.exporter` does the work."""

    help = "Write a tenant's backends in the format that import_config reads. Secrets are left out unless asked for."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help=f"default: {DEFAULT_TENANT}")
        parser.add_argument("--output", metavar="FILE", type=Path, help="default: standard output")
        parser.add_argument(
            "--include-secrets",
            action="store_true",
            help="write tokens, HMAC secrets, arguments and environment of commands in clear text",
        )
        parser.add_argument(
            "--include-disabled",
            action="store_true",
            help="also disabled backends: the file cannot mark them as disabled",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from relay.configfile import dump
        from tenants.services.config_import.exporter import NotExpressible, export_config

        secrets = options["include_secrets"]
        try:
            export = export_config(options["tenant"], secrets=secrets, include_disabled=options["include_disabled"])
        except (UnknownTenant, NotExpressible) as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}): is it there, and migrated?") from None
        text = dump(export.document, include_secrets=secrets)
        if options["output"] is None:
            self.stdout.write(text, ending="")
        else:
            _write(options["output"], text, 0o600 if secrets else 0o644)
        for name in export.left_out:
            self.stderr.write(f"warning: {name}: is disabled and left out (--include-disabled writes it)")
        for warning in export.warnings:
            self.stderr.write(f"warning: {warning}")


def _write(path: Path, text: str, mode: int) -> None:
    """Replace the file at once: a reader finds the old text or the new one."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_text(text, encoding="utf-8")
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({error.strerror}): check the path.") from None
