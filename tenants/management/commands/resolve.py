"""``manage.py resolve``: who would serve a user's connection, and why the others would not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError

from relay.errors import InvalidValue

# What asks is imported when it is run, so that --help and mistakes in the arguments are answered at once.
if TYPE_CHECKING:
    from tenants.services.resolve.answer import BackendAnswer, Resolution


class Command(BaseCommand):
    """Arguments and output; `tenants.services.resolve.resolve` answers."""

    help = (
        "Say which tenant, backend, session and rule would serve a user's connection, with which share, and why the "
        "others would not. Exit code 1 where no backend would."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("host", metavar="HOST", help="what the user asks for, or tcp:PORT for a claimed port")
        parser.add_argument("port", metavar="PORT", help="public port of the node")
        parser.add_argument(
            "--client-ip", default="", metavar="IP", help="the client address that the access lists are asked about"
        )
        parser.add_argument("--transport", default="tcp", choices=("tcp", "udp"), help="default: %(default)s")
        parser.add_argument("--site", help="of the relays; by default each backend's own")
        parser.add_argument("--dial", action="store_true", help="dial the targets, from this machine")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        from tenants.services.resolve.answer import Outcome
        from tenants.services.resolve.question import parse_question
        from tenants.services.resolve.resolve import resolve

        try:
            asked = parse_question(options["host"], options["port"], options["client_ip"], options["transport"])
            answer = resolve(asked, site=options["site"])
        except InvalidValue as error:
            raise CommandError(str(error), returncode=2) from None
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}): is it there, and migrated?") from None
        if options["dial"]:
            from tenants.bridge.dial import dial_route

            for each in answer.backends:
                if each.targets and each.verdict is not Outcome.GETS_NOTHING and each.key in answer.configs:
                    each.dials = dial_route(answer.configs[each.key], each.targets, asked.port, asked.transport)
        if options["json"]:
            self.stdout.write(json.dumps(answer.as_json(), cls=DjangoJSONEncoder, indent=2))
        else:
            self._print(answer)
        if all(each.verdict is Outcome.GETS_NOTHING for each in answer.backends):
            raise SystemExit(1)

    def _print(self, answer: Resolution) -> None:
        self.stdout.write(answer.verdict)
        for each in answer.backends:
            self._print_backend(each)
        for note in answer.notes:
            self.stdout.write(f"Note: {note}")

    def _print_backend(self, each: BackendAnswer) -> None:
        self.stdout.write(f"\n{each.tenant}/{each.backend}: {each.shown}{f'. {each.why}' if each.why else ''}")
        if each.state:
            since = f" since {each.state_since:%Y-%m-%d %H:%M:%S} UTC" if each.state_since else ""
            self.stdout.write(f"  now: {each.state}{since}{f'. {each.problem}' if each.problem else ''}")
        if each.shares:
            self.stdout.write(
                f"  {'gets' if each.is_so_now else 'would get'} streams by {each.claim}, weight {each.weight}:"
            )
            for node, share in sorted(each.shown_shares):
                self.stdout.write(f"    {share:.0%} of the new ones at {node}")
        for rule in each.rules:
            self.stdout.write(f"  rule {rule.rule} to {rule.targets}{'' if rule.used else f' ({rule.why})'}")
        if each.access:
            self.stdout.write(f"  access: {each.access}")
        for session in each.sessions:
            claims = "claims it" if session.claims else "does not claim it"
            self.stdout.write(
                f"  session of {session.relay} to {session.node}: {session.state}, {claims}, {session.streams} live "
                f"streams, since {session.up_since:%Y-%m-%d %H:%M:%S} UTC"
            )
        for note in each.notes:
            self.stdout.write(f"  note: {note}")
        for dial in each.dials:
            how = f"failed after {dial.seconds * 1000:.1f} ms: {dial.problem}" if dial.problem else "answers"
            took = "" if dial.problem else f" in {dial.seconds * 1000:.1f} ms"
            self.stdout.write(f"  dialled from this machine: {dial.target} {how}{took}")
