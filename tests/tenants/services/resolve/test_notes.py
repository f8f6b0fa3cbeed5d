"""Tests of tenants.services.resolve.notes: limits that are reached."""

from __future__ import annotations

from tenants.models import Backend
from tests.tenants.services.resolve.asking import ResolveTestCase, ask, report


class NoteTests(ResolveTestCase):
    def test_limits_that_are_reached(self) -> None:
        Backend.objects.update(max_streams=5)
        type(self.acme).objects.update(max_streams=7)
        report(self.backend, hostnames=["app.example.com"], streams=4)
        self.assertEqual(ask("app.example.com").backends[0].notes, [])
        report(self.backend, hostnames=["app.example.com"], streams=3)
        notes = ask("app.example.com").backends[0].notes
        self.assertEqual(
            [note.partition(":")[0] for note in notes],
            [
                "It has 7 live streams in one relay, and may have 5",
                "Its tenant has 7 live streams in one relay, and may have 7",
            ],
        )
