from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import FieldError, ValidationError
from django.db import connection, transaction
from django.db.models import F
from django.db.models.deletion import Collector
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext

from tenants.changes import generations
from tenants.models import (
    Backend,
    BackendHostname,
    BackendNode,
    Change,
    ChangeAction,
    ChangeKind,
    Credential,
    CredentialKind,
    GenerationCounter,
    Hostname,
    HostRoute,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Tenant,
)
from tests.support.registry import make_backend, make_node, make_served_backend, make_tenant


class RolledBack(Exception):
    pass


class ChangeCase(TestCase):
    def changed(self, write: Callable[[], Any]) -> list[tuple[str, int, str]]:
        """Return (kind, id, action) of what a write recorded, in order."""
        before = generations.current()
        write()
        rows = Change.objects.filter(generation__gt=before)
        self.assertEqual([row.generation for row in rows], list(range(before + 1, generations.current() + 1)))
        return [(row.kind, row.object_id, row.action) for row in rows]

    def assertChanges(self, write: Callable[[], Any], *rows: Any, action: str = "updated") -> None:
        """Assert that a write records these objects and nothing else."""
        kinds = {Tenant: "tenant", NexusNode: "node", Backend: "backend", Hostname: "hostname"}
        expected = sorted((kinds[type(row)], row.pk, action) for row in rows)
        self.assertEqual(sorted(set(self.changed(write))), expected)


class EveryWriteCountsTests(ChangeCase):
    def setUp(self) -> None:
        self.backend = make_served_backend()
        self.other = make_served_backend(self.backend.tenant)
        self.tenant = self.backend.tenant
        self.mapping = self.backend.port_mappings.get()
        self.route = self.mapping.host_routes.get()
        self.hostname = self.backend.hostnames.get()
        self.node = self.backend.nodes.get()

    def edit(self, row: Any, **values: Any) -> Callable[[], None]:
        def write() -> None:
            for name, value in values.items():
                setattr(row, name, value)
            row.save()

        return write

    def test_creating(self) -> None:
        self.assertEqual([action for *_, action in self.changed(make_tenant)], ["created"])
        self.assertEqual([action for *_, action in self.changed(make_node)], ["created"])
        self.assertEqual(
            [(kind, action) for kind, _, action in self.changed(lambda: make_backend(self.tenant))],
            [("backend", "created")],
        )
        self.assertEqual(
            [
                (kind, action)
                for kind, _, action in self.changed(
                    lambda: Hostname.objects.create(tenant=self.tenant, name="new.example.com")
                )
            ],
            [("hostname", "created")],
        )
        for model, fields in (
            (PortMapping, {"backend": self.backend, "public_port": 80}),
            (HostRoute, {"port_mapping": self.mapping, "pattern": "x.example.com", "target": "localhost:1"}),
            (PortClaim, {"backend": self.backend, "public_port": 53}),
        ):
            with self.subTest(model.__name__):
                self.assertChanges(lambda model=model, fields=fields: model.objects.create(**fields), self.backend)

    def test_editing(self) -> None:
        self.assertChanges(self.edit(self.tenant, enabled=False), self.tenant)
        self.assertChanges(self.edit(self.node, enabled=False), self.node)
        self.assertChanges(self.edit(self.backend, weight=3), self.backend)
        self.assertChanges(self.edit(self.mapping, default_target="localhost:1"), self.backend)
        self.assertChanges(self.edit(self.route, target="localhost:2"), self.backend)
        self.assertChanges(self.edit(self.backend.credential, secret="a new one"), self.backend)

    def test_a_renamed_hostname_is_a_change_of_every_backend_that_serves_it(self) -> None:
        self.other.hostnames.add(self.hostname)
        self.assertChanges(self.edit(self.hostname, name="renamed.example.com"), self.backend, self.other)
        lonely = Hostname.objects.create(tenant=self.tenant, name="lonely.example.com")
        self.assertChanges(self.edit(lonely, name="alone.example.com"), lonely)

    def test_a_row_that_moves_changes_both_ends(self) -> None:
        self.assertChanges(self.edit(self.mapping, backend=self.other, public_port=1), self.backend, self.other)
        self.assertChanges(
            self.edit(self.route, port_mapping=PortMapping.objects.create(backend=self.backend, public_port=2)),
            self.backend,
            self.other,
        )

    def test_saving_what_is_stored_already_is_no_change_and_no_write(self) -> None:
        for row in (self.tenant, self.node, self.backend, self.mapping, self.route, self.hostname):
            with self.subTest(type(row).__name__):
                again = type(row).objects.get(pk=row.pk)
                changed_at = again.updated_at
                self.assertChanges(again.save)
                again.refresh_from_db()
                self.assertEqual(again.updated_at, changed_at)
        credential = Credential.objects.get(backend=self.backend)
        self.assertChanges(credential.save)
        self.assertChanges(self.edit(credential, secret="not so secret"))
        self.assertChanges(lambda: self.node.save(update_fields=["name"]))
        self.assertChanges(self.edit(self.node, address=self.node.address.replace("wss://", "WSS://")))

    def test_update_fields_writes_and_compares_only_those(self) -> None:
        self.backend.weight, self.backend.name = 9, "not written"
        self.assertChanges(lambda: self.backend.save(update_fields=["name"]), self.backend)
        self.backend.refresh_from_db()
        self.assertEqual((self.backend.weight, self.backend.name), (1, "not written"))

    def test_update(self) -> None:
        both = Backend.objects.filter(tenant=self.tenant)
        self.assertChanges(lambda: both.update(enabled=False), self.backend, self.other)
        self.assertChanges(lambda: both.filter(enabled=True).update(weight=1))
        self.assertChanges(lambda: both.filter(enabled=False).update(enabled=True, weight=F("weight") + 1), *both)
        self.assertChanges(
            lambda: HostRoute.objects.filter(port_mapping__backend__tenant=self.tenant).update(target="LOCALHOST:5"),
            self.backend,
            self.other,
        )
        self.assertEqual({route.target for route in HostRoute.objects.all()}, {"localhost:5"})
        self.assertChanges(lambda: self.backend.port_mappings.update(default_target="localhost:6"), self.backend)
        self.assertChanges(
            lambda: PortMapping.objects.filter(pk=self.mapping.pk).update(backend=self.other, public_port=9),
            self.backend,
            self.other,
        )

    def test_update_refuses_what_needs_a_look_at_each_row(self) -> None:
        for rows, values in (
            (Credential.objects.all(), {"secret": "x"}),
            (Backend.objects.all(), {"tenant": self.tenant}),
            (Backend.objects.all(), {"tenant_id": self.tenant.pk}),
            (BackendHostname.objects.all(), {"hostname": self.hostname}),
            (Hostname.objects.all(), {"name": "u.example.com"}),
        ):
            with self.subTest(values=values), self.assertRaises(FieldError):
                rows.update(**values)
        with self.assertRaises(ValidationError):
            HostRoute.objects.filter(pk=self.route.pk).update(pattern="not a name")

    def test_bulk_create(self) -> None:
        def create() -> None:
            PortClaim.objects.bulk_create(
                [
                    PortClaim(backend=backend, public_port=port)
                    for backend in (self.backend, self.other)
                    for port in (1, 2)
                ]
            )

        self.assertChanges(create, self.backend, self.other)
        made = self.changed(
            lambda: Backend.objects.bulk_create([Backend(tenant=self.tenant, name=str(n)) for n in range(3)])
        )
        self.assertEqual([action for *_, action in made], ["created"] * 3)
        [(kind, key, _)] = self.changed(
            lambda: Backend.objects.bulk_create(
                [Backend(tenant=self.tenant, name=name) for name in ("1", "new")], ignore_conflicts=True
            )
        )
        self.assertEqual((kind, key), ("backend", Backend.objects.get(name="new").pk))
        [hostname] = Hostname.objects.bulk_create([Hostname(tenant=self.tenant, name="BULK.example.com.")])
        self.assertEqual(Hostname.objects.get(pk=hostname.pk).name, "bulk.example.com")
        [credential] = Credential.objects.bulk_create(
            [Credential(backend=make_backend(), kind=CredentialKind.HMAC_SECRET, secret="x")]
        )
        self.assertTrue(Credential.objects.get(pk=credential.pk).fingerprint)

    def test_bulk_update(self) -> None:
        self.route.target = "LOCALHOST:7"
        other_route = HostRoute.objects.get(port_mapping__backend=self.other)
        other_route.target = "localhost:7"
        self.assertChanges(
            lambda: HostRoute.objects.bulk_update([self.route, other_route], ["target"]), self.backend, self.other
        )
        self.route.refresh_from_db()
        self.assertEqual(self.route.target, "localhost:7")
        self.mapping.backend, self.mapping.public_port = self.other, 77
        self.assertChanges(
            lambda: PortMapping.objects.bulk_update([self.mapping], ["backend", "public_port"]),
            self.backend,
            self.other,
        )

    def test_update_or_create_and_get_or_create(self) -> None:
        def edit(target: str) -> Callable[[], Any]:
            return lambda: PortMapping.objects.update_or_create(
                backend=self.backend, transport="tcp", public_port=443, defaults={"default_target": target}
            )

        self.assertChanges(edit("localhost:12"), self.backend)
        self.assertChanges(edit("localhost:12"))
        self.assertChanges(lambda: self.backend.port_claims.get_or_create(public_port=8), self.backend)
        self.assertChanges(lambda: self.backend.port_claims.get_or_create(public_port=8))

    def test_many_to_many(self) -> None:
        node, third = make_node(), make_node()
        hostname = Hostname.objects.create(tenant=self.tenant, name="m2m.example.com")
        for write in (
            lambda: self.backend.nodes.add(node),
            lambda: self.backend.nodes.remove(node),
            lambda: self.backend.nodes.set([third, node]),
            lambda: node.backends.remove(self.backend),
            self.backend.nodes.clear,
            lambda: self.backend.hostnames.add(hostname),
            lambda: hostname.backends.set([]),
            lambda: hostname.backends.add(self.backend),
            self.backend.hostnames.clear,
        ):
            self.assertChanges(write, self.backend)
        self.assertChanges(lambda: node.backends.add(self.backend, self.other), self.backend, self.other)
        self.assertChanges(lambda: self.backend.nodes.add(node))
        self.assertChanges(node.backends.clear, self.backend, self.other)
        with self.assertRaises(ValidationError):
            self.backend.hostnames.add(Hostname.objects.create(tenant=make_tenant(), name="foreign.example.com"))

    def test_deleting(self) -> None:
        self.assertChanges(self.route.delete, self.backend)
        self.assertChanges(
            PortMapping.objects.filter(backend__in=[self.backend, self.other]).delete, self.backend, self.other
        )
        self.assertChanges(self.backend.credential.delete, self.backend)
        self.assertChanges(self.hostname.delete, self.backend)
        node, backend = self.node.pk, self.backend.pk
        self.assertEqual(
            sorted(self.changed(self.node.delete)), [("backend", backend, "updated"), ("node", node, "deleted")]
        )
        self.assertEqual(self.changed(self.backend.delete), [("backend", backend, "deleted")])
        self.assertChanges(Backend.objects.filter(pk=backend).delete)

    def test_deleting_a_tenant_deletes_its_backends(self) -> None:
        lonely = Hostname.objects.create(tenant=self.tenant, name="lonely.example.com")
        expected = [
            ("backend", self.backend.pk, "deleted"),
            ("backend", self.other.pk, "deleted"),
            ("hostname", lonely.pk, "deleted"),
            ("tenant", self.tenant.pk, "deleted"),
        ]
        self.assertEqual(sorted(self.changed(Tenant.objects.filter(pk=self.tenant.pk).delete)), expected)

    def test_a_cascade_that_passes_by_our_delete_counts(self) -> None:
        def collect() -> None:
            collector = Collector(using="default")
            collector.collect([self.mapping])
            collector.delete()

        self.assertChanges(collect, self.backend)

    def test_a_fixture_counts(self) -> None:
        text = serializers.serialize("json", [self.mapping, self.route])
        self.mapping.delete()

        def load() -> None:
            with transaction.atomic():
                for row in serializers.deserialize("json", text):
                    row.save()

        self.assertEqual({key for _, key, _ in self.changed(load)}, {self.backend.pk})

    def test_members_are_not_routed(self) -> None:
        user = get_user_model().objects.create_user("someone")
        self.assertChanges(lambda: Membership.objects.create(user=user, tenant=self.tenant, role="owner"))
        self.assertChanges(user.delete)

    def test_what_is_rolled_back_leaves_no_gap(self) -> None:
        before = generations.current()
        with self.assertRaises(RolledBack), transaction.atomic():
            make_tenant()
            raise RolledBack
        self.assertEqual(generations.current(), before)
        self.assertEqual(len(self.changed(make_tenant)), 1)

    def test_a_refused_row_does_not_spoil_the_transaction_around_it(self) -> None:
        link = BackendHostname(
            backend=self.backend, hostname=Hostname.objects.create(tenant=make_tenant(), name="f.example.com")
        )
        with self.assertRaises(ValidationError):
            link.save()
        self.assertChanges(self.edit(self.backend, weight=4), self.backend)


class BatchTests(ChangeCase):
    def test_a_batch_records_each_root_once_at_its_end(self) -> None:
        tenant = make_tenant()

        def write() -> None:
            with generations.batch():
                before = generations.current()
                for _ in range(3):
                    make_served_backend(tenant)
                self.assertEqual(generations.current(), before)

        rows = self.changed(write)
        self.assertEqual(len(rows), 3 + 3 + 3)  # backends, their nodes, their hostnames before they were served
        self.assertEqual([action for kind, _, action in rows if kind == "backend"], ["created"] * 3)

    def test_the_last_word_counts(self) -> None:
        def write() -> None:
            with generations.batch():
                make_backend(tenant).delete()

        tenant = make_tenant()
        self.assertEqual([action for *_, action in self.changed(write)], ["deleted"])

    def test_it_costs_the_same_number_of_queries_however_much_changes(self) -> None:
        def queries(backends: Iterable[Backend]) -> int:
            keys = [backend.pk for backend in backends]
            with CaptureQueriesContext(connection) as captured:
                Backend.objects.filter(pk__in=keys).update(weight=F("weight") + 1)
            return len(captured)

        tenant = make_tenant()
        few, many = ([make_backend(tenant) for _ in range(count)] for count in (2, 60))
        self.assertEqual(queries(few), queries(many))

    def test_a_batch_that_fails_records_nothing(self) -> None:
        before = generations.current()
        with self.assertRaises(RolledBack), generations.batch():
            make_tenant()
            raise RolledBack
        self.assertEqual(generations.current(), before)
        self.assertIsNone(generations.open_batch())


class ChangesSinceTests(TestCase):
    def test_one_query_where_nothing_changed_and_two_where_something_did(self) -> None:
        for _ in range(20):
            make_tenant()
        newest = generations.current()
        with self.assertNumQueries(1):
            self.assertFalse(generations.changes_since(newest))
        with self.assertNumQueries(2):
            found = generations.changes_since(newest - 3)
        self.assertEqual((found.generation, len(found.tenants), found.reload), (newest, 3, False))

    def test_the_query_is_a_range_of_the_primary_key(self) -> None:
        rows = Change.objects.filter(generation__gt=5).order_by("generation")
        if connection.vendor == "postgresql":
            # Of a table as small as a test's it would rather read everything.
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")
        plan = rows.explain()
        if connection.vendor == "sqlite":
            self.assertRegex(plan, r"^\d+ \d+ \d+ SEARCH tenants_change USING (INDEX|INTEGER PRIMARY KEY).*>\?\)$")
            self.assertNotIn("TEMP B-TREE", plan)
        else:
            self.assertIn("tenants_change_pkey", plan)

    def test_a_reader_too_far_behind_is_told_to_read_everything(self) -> None:
        start = generations.current()
        for _ in range(10):
            make_tenant()
        newest = generations.current()
        self.assertTrue(generations.changes_since(start, limit=9).reload)
        self.assertFalse(generations.changes_since(start, limit=10).reload)
        self.assertEqual(generations.prune(keep=4), newest - 4)
        self.assertEqual(generations.changes_since(start), generations.ChangeSet(newest, reload=True))
        self.assertFalse(generations.changes_since(newest - 4).reload)
        self.assertTrue(generations.changes_since(newest - 5).reload)

    def test_a_database_that_knows_less_than_the_reader_is_another_one(self) -> None:
        make_tenant()
        newest = generations.current()
        self.assertEqual(generations.changes_since(newest + 7), generations.ChangeSet(newest, reload=True))

    def test_the_log_prunes_itself(self) -> None:
        make_tenant()
        start = generations.current()
        at = (start // generations.PRUNE_EVERY + 40) * generations.PRUNE_EVERY - 1
        GenerationCounter.objects.update(value=at)
        make_tenant()
        self.assertEqual(list(Change.objects.values_list("generation", flat=True)), [at + 1])

    def test_a_lost_counter_goes_on_after_the_log(self) -> None:
        make_tenant()
        newest = generations.current()
        GenerationCounter.objects.all().delete()
        make_tenant()
        self.assertEqual(generations.current(), newest + 1)

    def test_a_counter_behind_the_log_catches_up(self) -> None:
        make_tenant()
        newest = generations.current()
        GenerationCounter.objects.update(value=0)
        make_tenant()
        self.assertEqual(generations.current(), newest + 1)

    def test_a_negative_keep_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            generations.prune(-1)


class AnnouncementTests(TransactionTestCase):
    def test_a_transaction_announces_its_newest_generation_once_and_after_commit(self) -> None:
        from tenants import tasks

        told: list[int] = []
        original, tasks.announce = tasks.announce, told.append
        self.addCleanup(setattr, tasks, "announce", original)
        with transaction.atomic():
            make_served_backend()
            with transaction.atomic():
                make_tenant()
            self.assertEqual(told, [])
        self.assertEqual(told, [generations.current()])
        with self.assertRaises(RolledBack), transaction.atomic():
            make_tenant()
            raise RolledBack
        self.assertEqual(len(told), 1)

    def test_locking_outside_a_transaction_is_refused(self) -> None:
        with self.assertRaises(transaction.TransactionManagementError):
            generations.lock()


class ChangeKindTests(TestCase):
    def test_texts(self) -> None:
        change = Change(generation=3, kind=ChangeKind.NODE, object_id=4, action=ChangeAction.DELETED)
        self.assertEqual(str(change), "3: node 4 deleted")
        self.assertEqual(BackendNode._meta.base_manager_name, "objects")
