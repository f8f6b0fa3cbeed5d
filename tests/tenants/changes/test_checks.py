"""Checks that models are given from outside run on every way to write their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from django.core.exceptions import ValidationError
from django.test import TestCase

from tenants.changes import checks
from tenants.models import PortClaim, PortMapping
from tests.support.registry import make_backend


class RegisterTest(TestCase):
    def setUp(self) -> None:
        own = mock.patch.dict(checks._registered, {PortClaim: {}})
        own.start()
        self.addCleanup(own.stop)
        self.backend = make_backend()
        self.seen: list[list[int]] = []
        checks.register(PortClaim, "low", self.check, fields={"public_port"}, clean=self.clean)

    def check(self, rows: Sequence[PortClaim], using: str) -> None:
        self.seen.append([row.public_port for row in rows])
        self.assertEqual(using, "default")
        if any(row.public_port > 1000 for row in rows):
            raise ValidationError({"public_port": "Too high."})

    def clean(self, row: PortClaim) -> None:
        self.check([row], "default")

    def refuses(self, write: Any) -> None:
        with self.assertRaisesMessage(ValidationError, "Too high."):
            write()

    def test_every_way_to_write(self) -> None:
        claims = PortClaim.objects
        row = claims.create(backend=self.backend, public_port=5)
        self.refuses(lambda: claims.create(backend=self.backend, public_port=1001))
        self.refuses(lambda: claims.bulk_create([PortClaim(backend=self.backend, public_port=1002)]))
        self.refuses(lambda: claims.filter(pk=row.pk).update(public_port=1003))
        row.public_port = 1004
        self.refuses(row.save)
        self.refuses(row.full_clean)
        self.refuses(lambda: claims.bulk_update([row], ["public_port"]))
        self.refuses(lambda: claims.update_or_create(pk=row.pk, defaults={"public_port": 1005}))
        self.assertEqual(self.seen, [[5], [1001], [1002], [1003], [1004], [1004], [1004], [1005]])

    def test_other_fields_in_bulk_are_not_looked_at(self) -> None:
        row = PortClaim.objects.create(backend=self.backend, public_port=5, transport="udp")
        self.seen.clear()
        PortClaim.objects.filter(pk=row.pk).update(flow_idle_timeout=9)
        PortClaim.objects.bulk_update([row], ["flow_idle_timeout"])
        self.assertEqual(self.seen, [])

    def test_a_second_one_of_a_name_takes_the_place(self) -> None:
        checks.register(PortClaim, "low", lambda rows, using: None)
        PortClaim.objects.create(backend=self.backend, public_port=2000)
        self.assertEqual(checks.names_of(PortClaim), ["low"])
        self.assertEqual(checks.checked_fields(PortClaim), frozenset())

    def test_other_models_have_their_own(self) -> None:
        PortMapping.objects.create(backend=self.backend, public_port=2000)
        self.assertEqual(self.seen, [])
