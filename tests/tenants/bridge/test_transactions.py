"""Tests of tenants.bridge.transactions: many tables as of one moment, and no writer waits."""

from __future__ import annotations

import threading
import unittest

from django.db import DEFAULT_DB_ALIAS, connections

from tenants.bridge.snapshot import backend_key, load_all
from tenants.bridge.transactions import one_moment
from tenants.changes import generations
from tenants.models import (
    NexusNode,
    Tenant,
)
from tests.support.registry import (
    make_served_backend,
    make_tenant,
    postgres_database,
    sqlite_database,
)


class OneMomentTests:
    alias: str

    def test_a_writer_neither_waits_for_a_reader_nor_shows_up_half_way(self) -> None:
        tenant = Tenant.objects.using(self.alias).create(slug="before")
        wrote = threading.Event()

        def write() -> None:
            try:
                tenant.slug = "after"
                tenant.save()
                wrote.set()
            finally:
                connections[self.alias].close()

        with one_moment(self.alias):
            generation = generations.current(self.alias)
            writer = threading.Thread(target=write)
            writer.start()
            self.assertTrue(wrote.wait(20), "the writer waits for the reader")
            self.assertEqual(generations.current(self.alias), generation)
            self.assertEqual(Tenant.objects.using(self.alias).get(pk=tenant.pk).slug, "before")
        writer.join()
        self.assertEqual(Tenant.objects.using(self.alias).get(pk=tenant.pk).slug, "after")
        with self.assertRaises(KeyError), one_moment(self.alias):
            raise KeyError
        tenant.delete()


class SqliteMomentTests(OneMomentTests, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.alias = cls.enterClassContext(sqlite_database())


class PostgresMomentTests(OneMomentTests, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.alias = cls.enterClassContext(postgres_database())

    def test_a_whole_registry_is_read_there(self) -> None:
        backend = make_served_backend(make_tenant(self.alias), using=self.alias)
        self.assertEqual(list(load_all(using=self.alias).backends), [backend_key(backend.pk)])
        self.assertNotEqual(self.alias, DEFAULT_DB_ALIAS)
        self.assertEqual(NexusNode.objects.using(self.alias).count(), 1)
