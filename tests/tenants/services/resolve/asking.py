"""Ask the route tester, in a registry with one backend that is served."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import TestCase
from django.utils import timezone

from tenants.models import Backend, Credential, CredentialKind, Hostname, PortMapping, RelayProcess, RelaySession
from tenants.services.resolve.answer import Outcome, Resolution
from tenants.services.resolve.question import parse_question
from tenants.services.resolve.resolve import resolve
from tests.support.registry import make_backend, make_served_backend, make_tenant

SERVES, REFUSES, GETS_NOTHING = Outcome.SERVES, Outcome.REFUSES, Outcome.GETS_NOTHING


def ask(host: str, port: Any = 443, *, client: str = "", transport: str = "tcp", **options: Any) -> Resolution:
    return resolve(parse_question(host, port, client, transport), **options)


def verdicts(answer: Resolution) -> dict[str, str]:
    return {each.backend: each.verdict for each in answer.backends}


def report(backend: Backend, *, node: str = "", streams: int = 0, state: str = "up", **claims: Any) -> RelaySession:
    """Save what a relay tells of a live session."""
    now = timezone.now()
    relay, _ = RelayProcess.objects.get_or_create(
        name="relay-1", defaults={"started_at": now, "seen_at": now, "expires_at": now + timedelta(minutes=1)}
    )
    return RelaySession.objects.create(
        relay=relay,
        backend=backend,
        node=node or backend.nodes.first().address,
        state=state,
        dialect="attested",
        up_since=now,
        streams=streams,
        claims={"hostnames": [], "weight": 1, "tcp_ports": [], "udp_routes": []} | claims,
    )


class ResolveTestCase(TestCase):
    """A tenant with one backend that is served."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.acme = make_tenant(slug="acme")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        cls.node = cls.backend.nodes.get()

    def another(self, hostname: str, *, name: str, **fields: Any) -> Backend:
        """Save one more backend at the same node."""
        backend = make_backend(fields.pop("tenant", self.acme), name=name, **fields)
        backend.nodes.add(self.node)
        if hostname:
            row, _ = Hostname.objects.get_or_create(tenant=backend.tenant, name=hostname)
            backend.hostnames.add(row)
        PortMapping.objects.create(backend=backend, public_port=443, default_target="other:1")
        Credential.objects.create(backend=backend, kind=CredentialKind.HMAC_SECRET, secret="s" * 40)
        return backend
