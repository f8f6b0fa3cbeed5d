"""``manage.py rundemotarget``: a local service that answers with what it saw, to try routes with."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

# The target is imported by what runs it, so that --help and mistakes in the arguments are answered at once.
if TYPE_CHECKING:
    from relay.devnode.demo_target import DemoTarget


class Command(BaseCommand):
    """Arguments; `relay.devnode.demo_target` does the rest."""

    help = "Run an HTTP and HTTPS service on this machine that answers with its name, the Host, the port, TLS or not."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="demo", help="what it calls itself (default: %(default)s)")
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--http-port", type=int, default=9001, help="default: %(default)s")
        parser.add_argument("--tls-port", type=int, default=9002, help="default: %(default)s")
        parser.add_argument(
            "--hostname", action="append", default=[], help="name that its certificate is for, beside localhost"
        )
        parser.add_argument(
            "--certificate-directory",
            type=Path,
            default=Path(settings.STATE_DIR) / "demo",
            help="keeps its CA and certificate; clients trust its ca.pem (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            asyncio.run(self._serve(options))
        except OSError as error:
            raise CommandError(f"demo target {options['name']}: {error.strerror or error}") from error

    async def _serve(self, options: dict[str, Any]) -> None:
        from relay.devnode.demo_target import DemoTarget, serve

        target = DemoTarget(
            options["name"],
            directory=options["certificate_directory"],
            hostnames=options["hostname"],
            host=options["host"],
            http=options["http_port"],
            tls=options["tls_port"],
        )
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(target, stop, self._announce)

    def _announce(self, target: DemoTarget) -> None:
        self.stdout.write(
            f"demo target {target.name}: HTTP {target.http_port}, HTTPS {target.tls_port}, CA file {target.ca_file}"
        )
        self.stdout.flush()
