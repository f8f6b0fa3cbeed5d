"""Rows that forms take, and that look odd: whatever they say, every other backend is served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.test import TestCase

from relay import Relay, RelayConfig
from relay.config.client_address import parse_client_address
from relay.connect_handler import ConnectRequest
from relay.errors import InvalidValue
from relay.sessions.uplink import Uplink
from relay.tokens.sources import session_claims
from tenants.bridge.snapshot import UnreadableBackend, load_all
from tenants.models import HostRoute, PortClaim
from tests.support.registry import make_served_backend, make_tenant
from tests.support.relays import inside_of, recorded_logs

NUMBERS: Final = (0, 1, -1, 2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30)
TEXTS: Final = (
    "",
    "\x00",
    "\x1b[31mred",
    "\u202egnp.exe",
    "a" * 20_001,
    "é.example.com",
    "::1:80",
    "[::1%eth0]:80",
    "[::ffff:127.0.0.1]:80",
    "0:80",
    "0x7f.1:80",
    "a.b:80,a.b:80",
    "127.0.0.1:0",
    "localhost:443, " * 50 + "localhost:443",
    "unix:/" + "a" * 200,
    "0.0.0.0/0",
    "::/0",
    "1.2.3.4/33",
    "%s%n{0}{self}",
    "' OR 1=1 --",
)
REQUEST: Final = ConnectRequest(
    backend="odd",
    stream_id="00000000-0000-4000-8000-000000000000",
    hostname="",
    original_hostname="",
    port=0,
    client_address="192.0.2.1:5",
    is_tls=True,
    transport="tcp",
)

JSON: Final = ([], [0], [65535, 65535], [True], [1.5], ["25"], {}, None, [[25]], [25] * 70_000)


def odd_values(field: models.Field[Any, Any]) -> tuple[Any, ...]:
    """Return values that may be wrong for a field."""
    if isinstance(field, models.JSONField):
        return JSON
    if isinstance(field, models.IntegerField):
        return (*NUMBERS, None) if field.null else NUMBERS
    if isinstance(field, models.BooleanField):
        return (True, False)
    if isinstance(field, models.CharField | models.TextField):
        return TEXTS + tuple(value for value, _ in field.choices or ())
    return ()


class OddRowTests(TestCase):
    def test_whatever_is_accepted_keeps_nobody_else_from_being_served(self) -> None:
        healthy = make_served_backend(make_tenant(slug="healthy"), "healthy.example.com")
        odd = make_served_backend(make_tenant(slug="odd"), "odd.example.net")
        PortClaim.objects.create(backend=odd, public_port=53, transport="udp")
        self.healthy = f"backend:{healthy.pk}"
        accepted = tried = 0
        rows: list[models.Model] = [
            odd,
            odd.port_mappings.get(),
            HostRoute.objects.get(port_mapping__backend=odd),
            odd.port_claims.get(),
            odd.credential,
            odd.hostnames.get(),
            odd.hostname_links.get(),
        ]
        for row in rows:
            for field in row._meta.concrete_fields:
                if field.primary_key or field.is_relation or not field.editable:
                    continue
                for value in odd_values(field):
                    with self.subTest(row=type(row).__name__, field=field.name, value=repr(value)[:80]):
                        with transaction.atomic():
                            accepted += self.accepts(row, field, value)
                            transaction.set_rollback(True)
                    tried += 1
        self.assertGreater(accepted, 100)
        self.assertGreater(tried - accepted, 200)

    def accepts(self, row: models.Model, field: models.Field[Any, Any], value: object) -> bool:
        """Try a value; say whether it is taken. Where it is, all that is served is looked at."""
        fresh = type(row)._base_manager.get(pk=row.pk)
        setattr(fresh, field.name, value)
        try:
            fresh.full_clean()
            fresh.save()
        except ValidationError:
            return False
        problems: list[UnreadableBackend] = []
        config = load_all(report=problems.append)
        self.assertEqual(problems, [])
        self.assertIn(self.healthy, config.backends)
        with mock.patch.object(Uplink, "start"), recorded_logs() as logs:
            asyncio.run(self.serve(config))
        self.assertNotIn("could not follow", logs.text())
        return True

    async def serve(self, config: RelayConfig) -> None:
        async with Relay(config) as relay:
            supervisor = inside_of(relay)
            assert supervisor is not None
            for runner in supervisor._runners.values():
                with contextlib.suppress(InvalidValue):  # a uplink says so, and waits for the next edit
                    session_claims(runner.config)
                for transport, port in itertools.product(("tcp", "udp"), (443, 53, 1, 65535)):
                    for name in ("", "odd.example.net", "healthy.example.com", "\ud800", "\x00"):
                        route = runner.config.routes.match(port, name, transport)
                        options = runner.config.routes.options(port, transport)
                        if options is not None:
                            runner.access(options.access).admits(parse_client_address("192.0.2.1:5"))
                        if route is not None:
                            runner._balancer.dial(
                                replace(REQUEST, hostname=name, port=port, transport=transport), route
                            )
