"""Tests of tenants.services.audit.since."""

from __future__ import annotations

from django.test import TestCase

from tenants.changes.actor import acting
from tenants.models import BackendHostname, Hostname, HostRoute
from tenants.services.audit import journal, since
from tests.support.registry import make_served_backend


class SinceTests(TestCase):
    def setUp(self) -> None:
        self.backend = make_served_backend(hostname="app.example.com")
        self.version = since.version()

    def test_only_later_changes_of_the_row_and_those_below_it(self) -> None:
        with acting(name="ann"):
            HostRoute.objects.update(target="localhost:1")
            make_served_backend().delete()
            journal.record("token issued", self.backend)
        found = since.of_row(self.backend, self.version)
        self.assertEqual([(each.model, each.actor_name) for each in found], [("tenants.hostroute", "ann")])
        self.assertEqual(since.of_row(self.backend, since.version()), [])

    def test_rows_that_the_trail_counts_to_another_one(self) -> None:
        hostname = Hostname.objects.get()
        self.assertEqual(since.of_row(hostname, self.version, [BackendHostname]), [])
        other = make_served_backend(self.backend.tenant)
        link = BackendHostname.objects.create(backend=other, hostname=hostname)
        made = since.of_row(hostname, self.version, [BackendHostname])
        self.assertEqual([(each.action, each.object_id) for each in made], [("created", str(link.pk))])
        BackendHostname.objects.filter(hostname=hostname).delete()
        gone = since.of_row(hostname, made[-1].pk, [BackendHostname])
        self.assertEqual([each.action for each in gone], ["deleted", "deleted"])

    def test_a_field_that_changed_twice_is_told_from_first_to_last(self) -> None:
        for weight in (5, 9):
            self.backend.weight = weight
            self.backend.save()
        found = since.by_field(since.of_row(self.backend, self.version))
        change = found["tenants.backend", str(self.backend.pk)]["weight"]
        self.assertEqual((change.before, change.after), (1, 9))

    def test_many_changes_are_not_all_named(self) -> None:
        for weight in range(2, since.SHOWN + 4):
            self.backend.weight = weight
            self.backend.save()
        lines = since.in_words(since.of_row(self.backend, self.version))
        self.assertEqual((len(lines), lines[-1]), (since.SHOWN + 1, "and 2 more: see the history"))
