"""Tests of tenants.services.resolve.matching: the same rule as a relay's, for every recorded case."""

from __future__ import annotations

import json
from pathlib import Path

from django.db import connection
from django.test import TestCase

from relay.config.hostnames import normalise_pattern
from tenants.models import HostRoute, PortClaim, PortMapping, RelaySession
from tenants.services.resolve.answer import Outcome
from tenants.services.resolve.question import parse_question
from tenants.services.resolve.resolve import resolve
from tests.support.registry import make_served_backend
from tests.tenants.services.resolve.asking import report

VECTORS = json.loads((Path(__file__).parents[3] / "data" / "vectors" / "routing.json").read_text())


class VectorTests(TestCase):
    def test_every_recorded_case_goes_where_the_relay_sends_it(self) -> None:
        count = 0
        for document in VECTORS:
            backend = make_served_backend()
            backend.port_mappings.all().delete()
            for port, mapping in document["port_mappings"].items():
                saved = PortMapping.objects.create(
                    backend=backend, public_port=int(port), default_target=mapping.get("default") or ""
                )
                for pattern, target in (mapping.get("hosts") or {}).items():
                    # Past the registry, which takes no pattern for a whole top-level domain.
                    row = HostRoute.objects.create(port_mapping=saved, pattern="x.example.com", target=target)
                    with connection.cursor() as cursor:
                        cursor.execute(
                            "UPDATE tenants_hostroute SET pattern = %s WHERE id = %s",
                            [normalise_pattern(pattern), row.pk],
                        )
            for case in document["cases"]:
                asked = parse_question(case["hostname"], case["port"])
                # A session that claims whatever is asked for, so that only the rules differ.
                PortClaim.objects.all().delete()
                PortClaim.objects.create(backend=backend, public_port=case["port"])
                RelaySession.objects.all().delete()
                report(backend, hostnames=[asked.hostname])
                (found,) = resolve(asked).backends
                self.assertEqual(found.targets or None, case["target"], case)
                self.assertEqual(found.verdict, Outcome.SERVES if case["target"] else Outcome.REFUSES, case)
                count += 1
            backend.delete()
        self.assertEqual(count, sum(len(document["cases"]) for document in VECTORS))
