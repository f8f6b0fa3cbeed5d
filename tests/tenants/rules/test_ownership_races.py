"""Two tenants want one thing at once: one has it, and the other is told, on SQLite in a file and on PostgreSQL."""

from __future__ import annotations

import threading
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import Client, override_settings
from django.urls import reverse

from relay.config import HmacSecret
from relay.configfile import BackendDocument, ConfigDocument, ConfigFileError
from tenants.models import Backend, Domain, Hostname, Membership, Role, Tenant
from tenants.rules import ownership
from tenants.services import domains
from tenants.services.config_import.importer import import_config
from tenants.services.txt_records import TxtAnswer
from tests.support.registry import make_domain, make_tenant, postgres_database, sqlite_database
from tests.tenants.admin.pages import errors_of

ROUNDS = 6


if TYPE_CHECKING:
    _Case = unittest.TestCase
else:
    _Case = object


class Races(_Case):
    """What is run with each kind of database; every thread's default connection is one of its own to it."""

    opened: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        alias = cls.enterClassContext(cls.opened())
        cls.enterClassContext(mock.patch.dict(connections.databases, {DEFAULT_DB_ALIAS: connections.databases[alias]}))

    def in_thread(self, work: Callable[[], Any]) -> Any:
        def run() -> Any:
            try:
                return work()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()

    def at_once(self, *works: Callable[[], Any]) -> list[Any]:
        """Do all of it at once, each in a thread with a connection of its own; give results, or what was raised."""
        start = threading.Barrier(len(works))

        def run(work: Callable[[], Any]) -> Any:
            try:
                connections[DEFAULT_DB_ALIAS].ensure_connection()
                start.wait()
                return work()
            except (ValidationError, ConfigFileError) as error:
                return error
            finally:
                connections.close_all()

        with ThreadPoolExecutor(len(works)) as pool:
            return [each.result() for each in [pool.submit(run, work) for work in works]]

    def assertOneWins(self, results: list[Any], *words: str) -> None:
        lost = [result for result in results if isinstance(result, Exception)]
        self.assertEqual(len(lost), len(results) - 1, results)
        for error in lost:
            self.assertTrue(any(each in str(error) for each in words), error)

    def tenants(self, number: int) -> list[Tenant]:
        return [make_tenant() for _ in range(number)]

    def test_one_name(self) -> None:
        def race() -> None:
            tenants = self.tenants(4)
            for number in range(ROUNDS):
                name = f"n{number}.example.com"
                self.assertOneWins(self.at_once(*(self.adding(tenant, name) for tenant in tenants)), "taken")
                self.assertEqual(Hostname.objects.filter(name=name).count(), 1)

        self.in_thread(race)

    def test_a_name_and_a_wildcard(self) -> None:
        def race() -> None:
            one, two = self.tenants(2)
            for number in range(ROUNDS):
                results = self.at_once(
                    self.adding(one, f"*.w{number}.example.com"), self.adding(two, f"a.w{number}.example.com")
                )
                self.assertOneWins(results, ownership.UNDER_WILDCARD, ownership.OVER_NAMES)
                self.assertEqual(Hostname.objects.filter(parent=f"w{number}.example.com").count(), 1)

        self.in_thread(race)

    def test_a_name_and_a_proof(self) -> None:
        def race() -> None:
            one, two = self.tenants(2)
            for number in range(ROUNDS):
                results = self.at_once(
                    partial(make_domain, one, f"d{number}.example.com"),
                    self.adding(two, f"a.d{number}.example.com"),
                )
                self.assertOneWins(results, ownership.UNDER_DOMAIN, ownership.NAMES_UNDER_DOMAIN)

        self.in_thread(race)

    def test_two_proofs_of_one_domain(self) -> None:
        def race() -> None:
            tenants = self.tenants(3)
            for number in range(ROUNDS):
                claims = [make_domain(tenant, f"p{number}.example.com", None) for tenant in tenants]
                answer = TxtAnswer(frozenset(claim.record_value for claim in claims))
                self.at_once(*(partial(domains.settle, claim, answer) for claim in claims))
                rows = list(Domain.objects.filter(name=f"p{number}.example.com"))
                self.assertEqual(sorted(row.verified_by for row in rows), ["", "", "dns"])
                for row in rows:
                    self.assertEqual("has proved its claim" in row.problem, not row.is_verified)

        self.in_thread(race)

    def test_the_last_place(self) -> None:
        def race() -> None:
            for number in range(ROUNDS):
                tenant = make_tenant(max_hostnames=2, max_backends=1)
                results = self.at_once(
                    *(self.adding(tenant, f"{place}.l{number}.example.com") for place in range(3)),
                )
                self.assertEqual([type(result) for result in results].count(Hostname), 2, results)
                results = self.at_once(
                    *(partial(Backend.objects.create, tenant=tenant, name=str(place)) for place in range(3))
                )
                self.assertOneWins(results, "may have 1")

        self.in_thread(race)

    def test_imports(self) -> None:
        def race() -> None:
            one, two = self.tenants(2)
            for number in range(ROUNDS // 3):
                results = self.at_once(
                    self.importing(one, f"*.i{number}.example.com"), self.importing(two, f"a.i{number}.example.com")
                )
                self.assertOneWins(results, "wildcard")

        self.in_thread(race)

    def test_the_admins_forms(self) -> None:
        def race() -> None:
            one, two = self.tenants(2)
            clients = [self.client_of(tenant) for tenant in (one, two)]
            address = reverse("admin:tenants_hostname_add")
            for number in range(ROUNDS // 2):
                answers = self.at_once(
                    *(
                        partial(client.post, address, {"tenant": tenant.pk, "name": name})
                        for client, tenant, name in zip(
                            clients,
                            (one, two),
                            (f"*.f{number}.example.com", f"a.f{number}.example.com"),
                            strict=True,
                        )
                    )
                )
                self.assertEqual(sorted(answer.status_code for answer in answers), [200, 302])
                [lost] = [answer for answer in answers if answer.status_code == 200]
                self.assertIn(errors_of(lost)["name"][0], (ownership.UNDER_WILDCARD, ownership.OVER_NAMES))

        with override_settings(REQUIRE_DOMAINS=False):
            self.in_thread(race)

    def adding(self, tenant: Tenant, name: str) -> Callable[[], Hostname]:
        return lambda: Hostname.objects.create(tenant=tenant, name=name)

    def importing(self, tenant: Tenant, name: str) -> Callable[[], Any]:
        backend = BackendDocument(
            name=name,
            hostnames=(name,),
            nexus_addresses=("wss://nexus.example.com/connect",),
            port_mappings=(),
            credential=HmacSecret("s" * 32),
        )
        return lambda: import_config(ConfigDocument((backend,), "nexus.yaml"), tenant=tenant.slug)

    def client_of(self, tenant: Tenant) -> Client:
        user = get_user_model().objects.create(username=f"editor-{tenant.slug}", is_staff=True)
        Membership.objects.create(user=user, tenant=tenant, role=Role.EDITOR)
        client = Client()
        client.force_login(user)
        return client


class SqliteRaceTest(Races, unittest.TestCase):
    opened = staticmethod(sqlite_database)


class PostgresRaceTest(Races, unittest.TestCase):
    opened = staticmethod(postgres_database)
