"""Django's `check`, which tries the connections of the settings too."""

from __future__ import annotations

from typing import Any

from django.core.checks import register
from django.core.management.base import CommandParser
from django.core.management.commands.check import Command as DjangoCommand

TAG = "connections"


class Command(DjangoCommand):
    """Checks settings and models, and whether database, Redis and mail server can be used."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--offline", action="store_true", help="Try no connection.")

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if not options["offline"]:
            from nexusadmin.connections import check_connections

            register(check_connections, TAG)  # here alone: other commands run the checks too, and often
        super().handle(*app_labels, **options)
