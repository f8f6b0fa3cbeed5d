"""``manage.py runrelay``: carry the traffic of the registry's backends, or of a configuration file's."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from tenants.models.relay_process import NAME_LENGTH

# The relay is imported by what runs it, so that --help and mistakes in the arguments are answered at once.
if TYPE_CHECKING:
    from relay.config import RelayConfig
    from relay.relay import Relay
    from relay.service import ConfigSource
    from relay.workers import Share
    from tenants.bridge.reporter import Reporter

MAX_WORKERS = 256

# The relay's own defaults, for --help (`tests.tenants.management.commands.test_runrelay` holds them in step).
DEFAULT_DRAIN = 30.0
DEFAULT_MAX_BUFFERED = 512  # MiB
DEFAULT_POLL_INTERVAL = 1.0
DEFAULT_REPORT_INTERVAL = 15.0


def _share(text: str) -> Share:
    from relay.workers import Share

    return Share.parse(text)


class Command(BaseCommand):
    """Arguments; `relay.service` and `tenants.bridge` do the rest."""

    help = (
        "Open the sessions of all enabled backends and relay their streams. Follows every change of the registry "
        "while it runs. SIGTERM or SIGINT drains, a second one stops at once."
    )
    # Every check that needs the database would keep --config from running without one.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--config", metavar="FILE", help="run from a YAML file, without a database; follow it")
        parser.add_argument("--check", action="store_true", help="say what would be done, and exit")
        parser.add_argument("--site", help="serve only backends of this site, and those of none")
        parser.add_argument(
            "--drain",
            type=float,
            default=DEFAULT_DRAIN,
            metavar="SECONDS",
            help="how long live streams may continue during the drain at the end (default: %(default)g)",
        )
        parser.add_argument(
            "--workers",
            default="1",
            metavar="N",
            help="processes that share the backends (auto: one for each core; default: %(default)s)",
        )
        parser.add_argument(
            "--max-streams",
            type=int,
            default=0,
            metavar="N",
            help="live streams of one process, above which new ones are refused (default: what open files allow)",
        )
        parser.add_argument(
            "--max-buffered",
            type=int,
            default=DEFAULT_MAX_BUFFERED,
            metavar="MIB",
            help="MiB that may wait for targets in one process before new streams are refused (default: %(default)s)",
        )
        parser.add_argument(
            "--name",
            default="",
            help="what the registry calls this relay in its lists of sessions (default: the host's name)",
        )
        parser.add_argument(
            "--report-interval",
            type=float,
            default=DEFAULT_REPORT_INTERVAL,
            metavar="SECONDS",
            help="how often sessions and usage are reported to the registry (default: %(default)g)",
        )
        parser.add_argument("--no-reports", action="store_true", help="report nothing to the registry")
        parser.add_argument("--worker", type=_share, help=argparse.SUPPRESS)
        parser.add_argument(
            "--poll-interval",
            type=float,
            default=DEFAULT_POLL_INTERVAL,
            metavar="SECONDS",
            help="how often the registry's generation is read (default: %(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["drain"] < math.inf:
            raise CommandError(f"--drain {options['drain']:g} is not a time: give seconds, 0 to cut live streams")
        if not 0 < options["poll_interval"] < math.inf:
            raise CommandError(f"--poll-interval {options['poll_interval']:g} is not a time: give seconds, more than 0")
        if not 1 <= options["report_interval"] <= 3600:
            raise CommandError(f"--report-interval {options['report_interval']:g}: give 1 to 3600 seconds")
        if len(options["name"]) > NAME_LENGTH or not options["name"].isprintable():
            raise CommandError(f"--name is not a name: give at most {NAME_LENGTH} characters that can be printed")
        if options["config"] and options["site"]:
            raise CommandError("--site goes with the registry only: a configuration file knows no sites")
        for name in ("max_streams", "max_buffered"):
            if options[name] < 0:
                raise CommandError(
                    f"--{name.replace('_', '-')} {options[name]} is not a number of them: give 0 or more"
                )
        from relay.configfile import ConfigFileError
        from relay.limits.quota import ProcessBounds
        from relay.plan import describe
        from relay.relay import Relay
        from relay.service import ignore_hangup
        from relay.timings import Timings
        from relay.workers import SharedSource, run_workers

        ignore_hangup()
        share = options["worker"]
        reporter = self._reporter(options)
        relay = Relay(
            drain=options["drain"],
            bounds=ProcessBounds(options["max_streams"], options["max_buffered"] * 2**20),
            socks5_beyond_loopback=settings.ALLOW_SOCKS5_BEYOND_LOOPBACK,
            usage=None if reporter is None else reporter.usage,
            timings=Timings(keepalive=settings.TCP_KEEPALIVE_SECONDS),
            node_proxy=settings.NODE_PROXY,
        )
        workers = self._workers(options["workers"])
        try:
            if options["check"]:
                self.stdout.write(describe(self._read(options), settings.ALLOW_SOCKS5_BEYOND_LOOPBACK))
            elif share is not None:
                source = SharedSource(self._source(options), share)
                self._run(relay, reporter, source, sys.stdin.fileno())
            elif workers > 1:
                if options["config"]:
                    self._read(options, warns=False)  # its problems are reported once, and before anything starts
                code = run_workers([sys.executable, *sys.argv], workers)
                if code:
                    sys.exit(code if code > 0 else 1)
            else:
                self._run(relay, reporter, self._source(options))
        except ConfigFileError as error:
            raise CommandError(str(error), returncode=2) from None
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}): is it there, and migrated?") from None

    def _reporter(self, options: dict[str, Any]) -> Reporter | None:
        if options["config"] or options["no_reports"] or options["check"]:
            return None
        from tenants.bridge.reporter import Reporter

        share = options["worker"]
        return Reporter(
            name=options["name"],
            worker="" if share is None else str(share),
            site=options["site"] or "",
            interval=options["report_interval"],
        )

    def _run(self, relay: Relay, reporter: Reporter | None, source: ConfigSource, lifeline: int | None = None) -> None:
        from relay.service import run, serve

        async def main() -> None:
            serving = serve(relay, source, lifeline=lifeline)
            await (serving if reporter is None else reporter.beside(relay, serving))

        run(main)

    def _workers(self, text: str) -> int:
        if text == "auto":
            from relay.workers import usable_cores

            return usable_cores()
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_WORKERS:
            raise CommandError(f"--workers {text} is not a number of processes: give 1 to {MAX_WORKERS}, or auto")
        return int(text)

    def _read(self, options: dict[str, Any], *, warns: bool = True) -> RelayConfig:
        if not options["config"]:
            from tenants.bridge.snapshot import load_all

            return load_all(site=options["site"])
        from relay.configfile import read_config_file, to_relay_config

        document = read_config_file(options["config"], allow_insecure=settings.ALLOW_INSECURE_NODES)
        for warning in document.warnings if warns else ():
            self.stderr.write(f"warning: {warning}")
        return to_relay_config(document)

    def _source(self, options: dict[str, Any]) -> ConfigSource:
        if options["config"]:
            from relay.configfile.follow import FileSource

            share = options["worker"]
            first = share is None or share.index == 0  # of several workers, one tells what it is warned of
            return FileSource(options["config"], allow_insecure=settings.ALLOW_INSECURE_NODES, warns=first)
        from tenants.bridge.follower import ConfigFollower

        return ConfigFollower(site=options["site"], poll_interval=options["poll_interval"])
