"""``manage.py rundevnode``: a Nexus node on this machine, for development only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from relay.errors import InvalidValue
from relay.text import decode

# The node is imported by what runs it, so that --help and mistakes in the arguments are answered at once.
if TYPE_CHECKING:
    from relay.devnode import DevNode

SECRET_VARIABLE = "DEVNODE_SECRET"  # noqa: S105  # a variable's name
SECRET_FILE_VARIABLE = "DEVNODE_SECRET_FILE"  # noqa: S105
VERIFIER_VARIABLE = "DEVNODE_VERIFIER_SECRET"

# The node's own, for --help (`tests.tenants.management.commands.test_rundevnode` holds them in step).
DIALECTS = ("attested", "token")
DEFAULT_HUB_PORT = 9443


class Command(BaseCommand):
    """Arguments; `relay.devnode` does the rest."""

    help = (
        "Run a Nexus node for development: clients' sessions come in at --hub-port, users at the public ports. The "
        f"secret that tokens are checked with comes from ${SECRET_VARIABLE}, ${SECRET_FILE_VARIABLE} or --secret-file."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        public: dict[str, Any] = {"metavar": "[ADVERTISED:]PORT", "action": "append", "default": []}
        parser.add_argument("--dialect", choices=DIALECTS, default=DIALECTS[0])
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--hub-port", type=int, default=DEFAULT_HUB_PORT, help="default: %(default)s")
        parser.add_argument("--no-tls", action="store_true", help="let clients connect with ws://")
        parser.add_argument("--http", **public, help="public port, routed by Host")
        parser.add_argument("--tls", **public, help="public port, routed by SNI")
        parser.add_argument("--tcp", **public, help="public TCP port that a backend may claim")
        parser.add_argument("--udp", **public, help="public UDP port that a backend may claim")
        parser.add_argument("--secret-file", type=Path, help="file that holds the HS256 secret")
        parser.add_argument(
            "--verifier-url",
            default="",
            help="ask there whether tokens are good, as in https://admin.example.com/nexus/verify; "
            f"${VERIFIER_VARIABLE} is shown there, and the node needs no secret of its own",
        )
        parser.add_argument("--verifier-ca", type=Path, help="CA file of the verifier's certificate")
        parser.add_argument(
            "--verifier-certificate", type=Path, help="file with the certificate and key that the node shows there"
        )
        parser.add_argument(
            "--certificate-directory",
            type=Path,
            default=Path(settings.BASE_DIR) / "var" / "devnode",
            help="keeps the node's CA and certificate; clients trust its ca.pem (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        import asyncio

        from relay.devnode import NodeOptions
        from relay.devnode.serve import parse_ports, serve

        try:
            node_options = NodeOptions(
                dialect=options["dialect"],
                secret=_secret(options["secret_file"], needed=not options["verifier_url"]),
                verifier_url=options["verifier_url"],
                verifier_headers=_verifier_headers(),
                verifier_ca=options["verifier_ca"],
                verifier_certificate=options["verifier_certificate"],
                host=options["host"],
                hub_port=options["hub_port"],
                tls=not options["no_tls"],
                http_ports=parse_ports(options["http"], "--http"),
                tls_ports=parse_ports(options["tls"], "--tls"),
                tcp_ports=parse_ports(options["tcp"], "--tcp"),
                udp_ports=parse_ports(options["udp"], "--udp"),
                certificate_directory=options["certificate_directory"],
            )
            asyncio.run(serve(node_options, self._announce))
        except InvalidValue as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or 'development node'}: {error.strerror or error}") from error

    def _announce(self, node: DevNode) -> None:
        from relay.devnode.serve import describe

        self.stdout.write(describe(node))
        self.stdout.flush()


def _verifier_headers() -> dict[str, str]:
    secret = os.environ.get(VERIFIER_VARIABLE, "")
    return {"Nexus-Verifier-Secret": secret} if secret else {}


def _secret(path: Path | None, *, needed: bool) -> str:
    if path is None and SECRET_FILE_VARIABLE in os.environ:
        path = Path(os.environ[SECRET_FILE_VARIABLE])
    secret = decode(path.read_bytes()).strip() if path else os.environ.get(SECRET_VARIABLE, "")
    if not secret and needed:
        where = f"the file {path} is empty" if path else "none is set"
        raise CommandError(
            f"the development node needs a secret to check tokens with, and {where}: "
            f"set {SECRET_VARIABLE} or {SECRET_FILE_VARIABLE}, or give --secret-file"
        )
    return secret
