"""``manage.py mint_token TENANT/BACKEND``: sign a token with the tenant's key."""

from __future__ import annotations

import json
import os
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from relay.errors import InvalidValue


class Command(BaseCommand):
    """Arguments; `tenants.services.tokens.issue` does the rest."""

    help = (
        "Sign a token for a backend with its tenant's newest key, and print it or (--install) put it beside the "
        "backend's stored token as the next one: it is shown to the nodes, and takes the stored one's place when one "
        "has taken it. With --attest this is the attestation command of a client that is not run by this "
        'registry: it reads NEXUS_ATTESTATION_STAGE and the rest from its environment and prints {"token", "expiry"}.'
    )
    requires_system_checks: list[str] = []  # an attestation command has seconds

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("backend", metavar="TENANT/BACKEND")
        parser.add_argument("--ttl", default="", help="how long it is valid, as in 900, 12h or 90d (default: 30d)")
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--install", action="store_true", help="put it beside the stored one and do not print it")
        way.add_argument("--install-now", action="store_true", help="put it in place at once and do not print it")
        way.add_argument("--attest", action="store_true", help="answer as an attestation command (default ttl: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        from tenants.services.tokens import issue  # brings PyJWT and cryptography with it

        try:
            self._handle(options)
        except (issue.CanNotIssue, InvalidValue) as error:
            raise CommandError(str(error)) from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None

    def _handle(self, options: dict[str, Any]) -> None:
        from tenants.services.tokens import issue

        backend = issue.find_backend(options["backend"])
        ttl = issue.seconds(options["ttl"]) if options["ttl"] else None
        if options["attest"]:
            issued = issue.attest(backend, os.environ, issue.ATTESTED_TTL if ttl is None else ttl)
            self.stdout.write(json.dumps({"token": issued.token, "expiry": issue.rfc3339(issued.expires_at)}))
            return
        if options["install"] and (problem := issue.refuses_next(backend)):
            raise CommandError(f"{problem} (--install-now)")
        issued = issue.issue(backend, ttl=issue.PRESIGNED_TTL if ttl is None else ttl)
        if options["install"] or options["install_now"]:
            (issue.install_next if options["install"] else issue.install)(backend, issued)
            where = "beside the stored one" if options["install"] else "in place"
            said = f"a token for {backend} is {where}, valid until {issue.rfc3339(issued.expires_at)}"
            self.stdout.write(f"{said}, id {issued.token_id}")
        else:
            self.stdout.write(issued.token)
