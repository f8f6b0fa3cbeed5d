"""Tests of tenants.services.config_import.apply: no more is written than differs, in few queries."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from tenants.changes import generations
from tenants.models import (
    Backend,
    BackendHostname,
    Change,
    Hostname,
)
from tests.support.registry import make_served_backend
from tests.tenants.services.config_import.importing import ChangeTestCase, backend, lines, run


class ApplyTests(ChangeTestCase):
    def test_weight_alone_writes_one_root(self) -> None:
        generation = generations.current()
        self.assertEqual(self.change(weight=3), ["weight 1 → 3"])
        changes = generations.changes_since(generation)
        self.assertEqual(changes.backends, {self.backend.pk})
        self.assertEqual(Change.objects.filter(generation__gt=generation).count(), 1)

    def test_prune(self) -> None:
        elsewhere = make_served_backend()
        summary = run(backend())
        self.assertEqual((summary.changes, summary.left, summary.unchanged), ((), 1, 1))
        expected = ["remove backend other", "remove hostname other.example.com"]
        self.assertEqual(lines(run(backend(), prune=True, dry_run=True)), expected)
        self.assertEqual(lines(run(backend(), prune=True)), expected)
        self.assertEqual(set(Backend.objects.all()), {self.backend, elsewhere})
        self.assertFalse(Hostname.objects.filter(name="other.example.com").exists())
        self.assertEqual(run(backend(), prune=True).changes, ())

    def test_a_hostname_moves_from_a_backend_to_another(self) -> None:
        run(backend("other", hostnames=("edge.example.com",)), backend(hostnames=("new.example.com",)))
        self.assertEqual(
            set(BackendHostname.objects.values_list("backend__name", "hostname__name")),
            {("other", "edge.example.com"), ("edge", "new.example.com")},
        )


class CostTests(TestCase):
    def queries(self, number: int, **fields: Any) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            run(*(backend(f"edge-{index}", **fields) for index in range(number)))
        return len(queries)

    def test_queries_do_not_grow_with_the_file(self) -> None:
        self.queries(1)
        nothing = self.queries(1)
        # Another 40 backends fit into the batches of one.
        self.assertLess(self.queries(41), 3 * nothing + 60)
        self.assertEqual(self.queries(41), nothing)
        one = self.queries(1, weight=2)
        self.assertLessEqual(self.queries(41, weight=3), one + 2)
