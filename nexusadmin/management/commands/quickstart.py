"""``manage.py quickstart``: what `make run` runs."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Checks, prepares, starts, and tells what to open."""

    help = (
        "Prepare a development machine (tables, a user, the example's backends) and run everything on it: development "
        "node, demo targets, admin, relay. Ctrl-C stops all of it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        from nexusadmin.quickstart.ports import PortsNotFree, check_free, configured_ports
        from nexusadmin.quickstart.prepare import prepare
        from nexusadmin.quickstart.processes import run_processes
        from nexusadmin.quickstart.ready import Announcer

        if not settings.DEBUG:
            raise CommandError(
                "quickstart is for development machines, and DEBUG is off: unset DEBUG, or run the processes of "
                "deploy/Procfile as services of their own"
            )
        ports = configured_ports()
        try:
            check_free(ports)
        except PortsNotFree as error:
            raise CommandError(str(error)) from None
        announcer = None
        try:
            announcer = Announcer(prepare(self._say))
            code = run_processes(ports, announcer.start)
        except KeyboardInterrupt:
            code = 0
        finally:
            if announcer is not None:
                announcer.stop()
        if code:
            raise CommandError("one of the processes ended by itself; its last lines are above", returncode=code)
        self._say("Stopped.")
        sys.exit(0)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
