"""Django's `check`, which tries the connections of the settings too."""

from __future__ import annotations

from typing import Any

from django.core.checks.registry import registry
from django.core.management.base import CommandParser
from django.core.management.commands.check import Command as DjangoCommand

TAG = "connections"


class Command(DjangoCommand):
    """Checks settings and models, and whether database, Redis and mail server can be used."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--offline", action="store_true", help="Try no connection.")

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if options["offline"]:
            super().handle(*app_labels, **options)
            return
        from nexusadmin.connections import check_connections

        # For this command alone: others run the checks too, and often.
        others = set(registry.registered_checks)
        registry.register(check_connections, TAG)
        try:
            super().handle(*app_labels, **options)
        finally:
            registry.registered_checks = others
