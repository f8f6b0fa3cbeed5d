"""What `make run` needs before anything starts: keys, certificates, tables, a user, the example's rows.

Each step does only what is not done yet, so that a second run finds everything as the first (or the user) left it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction

from nexusadmin import keys
from relay.devnode.certificate import NodeCertificate, ensure_certificate
from tenants.models import Backend, Credential, HostRoute, NexusNode, PortMapping

USER = "admin"
HOSTNAMES = ("app.example.test", "*.preview.example.test")
EXAMPLE = "config.example.yaml"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the person at the terminal is told.

    Attributes:
        user: name of a user that may do everything in the admin.
        password: its password where it was made just now; None where the user was there before.
        demo_ca: the CA file to trust the demo targets by.
    """

    user: str
    password: str | None
    demo_ca: Path


def prepare(say: Say) -> Prepared:
    """Do what is not done yet, saying what; return what to tell."""
    state = settings.STATE_DIR
    keys.kept(state / "devnode" / "hmac-secret", lambda: secrets.token_urlsafe(48))
    node_certificate = ensure_certificate(state / "devnode")
    demo_certificate = ensure_certificate(state / "demo", HOSTNAMES)
    say("Bringing the database up to date ...")
    call_command("migrate", interactive=False, verbosity=0)
    user, password = ensure_user()
    ensure_example(say, node_certificate)
    return Prepared(user, password, demo_certificate.ca_file)


def ensure_user() -> tuple[str, str | None]:
    """Return a superuser's name, and the password if it was made here; the password itself is kept nowhere."""
    users = get_user_model()._default_manager
    known = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if known is not None:
        return known.get_username(), None
    name = USER
    while users.filter(**{get_user_model().USERNAME_FIELD: name}).exists():
        name += "1"
    password = secrets.token_urlsafe(15)
    users.create_superuser(name, password=password)
    return name, password


def example_values() -> dict[str, str]:
    """Return the example file's values, each with what replaces it in this run."""
    secret = settings.STATE_DIR / "devnode" / "hmac-secret"
    usual = settings.STATE_DIR == settings.BASE_DIR / "var"
    return {
        "wss://localhost:9443/connect": f"wss://localhost:{settings.NODE_HUB_PORT}/connect",
        "127.0.0.1:9001": f"127.0.0.1:{settings.DEMO_BLUE_HTTP_PORT}",
        "127.0.0.1:9002": f"127.0.0.1:{settings.DEMO_BLUE_TLS_PORT}",
        "127.0.0.1:9003": f"127.0.0.1:{settings.DEMO_GREEN_HTTP_PORT}",
        "127.0.0.1:9004": f"127.0.0.1:{settings.DEMO_GREEN_TLS_PORT}",
        "var/devnode/hmac-secret": "var/devnode/hmac-secret" if usual else str(secret),
    }


def ensure_example(say: Say, node_certificate: NodeCertificate) -> None:
    """Import the example into an empty registry; in one that has it, follow ports that were set to others since."""
    record = settings.STATE_DIR / "quickstart.json"
    values = example_values()
    if not Backend.objects.exists():
        say(f"Importing {EXAMPLE} ...")
        call_command("import_config", str(_example_file(values)))
    else:
        before = _recorded(record)
        moved = {before[name]: value for name, value in values.items() if before.get(name, value) != value}
        if moved:
            _follow(moved, say)
        elif not before:
            return  # a registry in use: the example stays out of it
    with transaction.atomic():
        node = NexusNode.objects.filter(address=values["wss://localhost:9443/connect"]).first()
        if node is not None and node.ca_pem.strip() != node_certificate.ca_pem.strip():
            node.ca_pem = node_certificate.ca_pem
            node.save()
    record.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _example_file(values: Mapping[str, str]) -> Path:
    """Return the example file, or a copy with this run's settings where they differ from the usual ones."""
    example: Path = settings.BASE_DIR / EXAMPLE
    if all(name == value for name, value in values.items()):
        return example
    pattern = re.compile("|".join(re.escape(name) for name in values))
    copy: Path = settings.STATE_DIR / EXAMPLE
    copy.write_text(pattern.sub(lambda found: values[found[0]], example.read_text(encoding="utf-8")), encoding="utf-8")
    return copy


def _recorded(record: Path) -> dict[str, str]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _follow(moved: Mapping[str, str], say: Say) -> None:
    """Rewrite the example's rows where they still say what the last run's settings were."""
    with transaction.atomic():
        for model, name in (
            (NexusNode, "address"),
            (PortMapping, "default_target"),
            (HostRoute, "target"),
            (Credential, "secret_file"),
        ):
            for row in model.objects.filter(**{f"{name}__in": list(moved)}):
                setattr(row, name, moved[getattr(row, name)])
                row.save()
    for old, new in moved.items():
        say(f"{old} is now {new}")
