"""Tests of the trail: every way to write a row is on record, with what it was and what it is."""

from __future__ import annotations

import threading
import unittest
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import connection, connections, models, transaction
from django.db.models import F
from django.test import TestCase, override_settings, tag
from django.test.utils import CaptureQueriesContext

from tenants.changes import entries, generations
from tenants.changes.audit_entry import AuditTrailIsFinal
from tenants.changes.base import RegistryModel
from tenants.changes.fingerprints import fingerprint
from tenants.fields import EncryptedTextField
from tenants.models import (
    AuditEntry,
    Backend,
    Credential,
    Hostname,
    Membership,
    NexusNode,
    PortClaim,
    PortMapping,
    Role,
)
from tenants.services.audit import journal
from tests.support.isolation.rows import OTHERS
from tests.support.registry import (
    make_backend,
    make_node,
    make_served_backend,
    make_tenant,
    make_token,
    postgres_database,
    sqlite_database,
)
from tests.tenants.admin.pages import fields_of


@contextmanager
def recorded(using: str = "default") -> Any:
    """Give a list that holds at the end what was recorded inside, oldest first."""
    last = AuditEntry.objects.using(using).order_by("pk").values_list("pk", flat=True).last() or 0
    found: list[AuditEntry] = []
    yield found
    found += AuditEntry.objects.using(using).filter(pk__gt=last).order_by("pk")


def make_user(name: str, **fields: Any) -> Any:
    return get_user_model().objects.create_user(name, password="correct horse battery", **fields)


class WriteTest(TestCase):
    """One entry a row, whichever way it is written."""

    def setUp(self) -> None:
        self.tenant = make_tenant(slug="acme")
        self.backend = make_served_backend(self.tenant, "app.example.com", name="web")

    def only(self, found: list[AuditEntry]) -> AuditEntry:
        self.assertEqual(len(found), 1, [str(each) for each in found])
        return found[0]

    def test_creation_by_save(self) -> None:
        with recorded() as found:
            claim = PortClaim.objects.create(backend=self.backend, public_port=2222)
        entry = self.only(found)
        self.assertEqual((entry.action, entry.model, entry.object_id), ("created", "tenants.portclaim", str(claim.pk)))
        self.assertEqual((entry.tenant_key, entry.tenant_slug), (self.tenant.pk, "acme"))
        self.assertEqual(entry.object_text, "tcp:2222")
        self.assertEqual(
            entry.changes,
            {
                "backend": [None, {"id": self.backend.pk, "text": "acme/web"}],
                "transport": [None, "tcp"],
                "public_port": [None, 2222],
            },
        )

    def test_update_by_save(self) -> None:
        with recorded() as found:
            self.backend.weight, self.backend.allowed_outbound_ports, self.backend.outbound_allowed = 5, [25], True
            self.backend.save()
        self.assertEqual(
            self.only(found).changes,
            {"weight": [1, 5], "outbound_allowed": [False, True], "allowed_outbound_ports": [[], [25]]},
        )

    def test_what_is_not_written_is_not_recorded(self) -> None:
        with recorded() as found:
            self.backend.save()
            self.backend.weight, self.backend.site = 7, "berlin"
            self.backend.save(update_fields=["site"])
            Backend.objects.filter(pk=self.backend.pk).update(site="berlin")
        self.assertEqual(self.only(found).changes, {"site": ["", "berlin"]})

    def test_text_that_stands_for_a_number_is_that_number(self) -> None:
        with recorded() as found:
            self.backend.weight = "1"  # type: ignore[assignment]
            self.backend.save()
            self.backend.weight = "2"  # type: ignore[assignment]
            self.backend.save()
            Backend.objects.update(weight="2")
        self.assertEqual(self.only(found).changes, {"weight": [1, 2]})

    def test_expressions_are_recorded_as_what_they_gave(self) -> None:
        with recorded() as found:
            Backend.objects.filter(pk=self.backend.pk).update(weight=F("weight") + 2, site="x")
        self.assertEqual(self.only(found).changes, {"weight": [1, 3], "site": ["", "x"]})
        with recorded() as found:
            self.backend.refresh_from_db()
            self.backend.weight = F("weight") * 2
            self.backend.save()
        self.assertEqual(self.only(found).changes, {"weight": [3, 6]})

    def test_bulk_update(self) -> None:
        other = make_backend(self.tenant, name="other")
        with recorded() as found:
            self.backend.weight = other.weight = 9
            Backend.objects.bulk_update([self.backend, other], ["weight", "site"])
        self.assertEqual({each.object_text for each in found}, {"acme/web", "acme/other"})
        self.assertEqual([each.changes for each in found], [{"weight": [1, 9]}] * 2)

    def test_bulk_create_and_links_of_a_many_to_many_field(self) -> None:
        node = make_node(name="north")
        with recorded() as found:
            self.backend.nodes.add(node)
        self.assertEqual((self.only(found).model, found[0].object_text), ("tenants.backendnode", "acme/web at north"))
        with recorded() as found:
            self.backend.nodes.remove(node)
        self.assertEqual((self.only(found).action, found[0].object_text), ("deleted", "acme/web at north"))

    def test_deletion_records_what_hangs_on_the_row(self) -> None:
        with recorded() as found:
            self.tenant.delete()
        self.assertEqual({each.action for each in found}, {"deleted"})
        self.assertEqual(
            sorted(each.object_text for each in found),
            sorted(
                [
                    "acme",
                    "acme/web",
                    "app.example.com",
                    "app.example.com by acme/web",
                    f"acme/web at {NexusNode.objects.get()}",
                    "acme/web: tcp:443",
                    "app.example.com to localhost:9443",
                    "HMAC secret of acme/web",
                ]
            ),
        )
        self.assertEqual({(each.tenant_key, each.tenant_slug) for each in found}, {(found[0].tenant_key, "acme")})
        self.assertEqual(len({each.batch for each in found}), 1)

    def test_deletion_records_what_was_stored(self) -> None:
        self.backend.weight = 77
        with recorded() as found:
            self.backend.delete()
        entry = next(each for each in found if each.model == "tenants.backend")
        self.assertEqual(entry.changes["weight"], [1, None])

    def test_deletion_by_queryset_with_deferred_fields(self) -> None:
        with recorded() as found:
            PortMapping.objects.only("pk").delete()
        entry = next(each for each in found if each.model == "tenants.portmapping")
        self.assertEqual(entry.changes["default_target"], ["localhost:8443", None])

    def test_cascade_from_outside_of_the_registry(self) -> None:
        user = make_user("ann")
        Membership.objects.create(user=user, tenant=self.tenant, role=Role.OWNER)
        with recorded() as found:
            user.delete()
        self.assertEqual(
            sorted((each.model, each.object_text, each.tenant_slug) for each in found),
            [("auth.user", "ann", ""), ("tenants.membership", "ann is owner of acme", "acme")],
        )

    def test_several_writes_of_one_transaction_are_one_entry_a_row(self) -> None:
        with recorded() as found, generations.batch():
            claim = PortClaim.objects.create(backend=self.backend, public_port=1)
            claim.public_port = 2
            claim.save()
            PortClaim.objects.create(backend=self.backend, public_port=3).delete()
            self.backend.weight = 4
            self.backend.save()
            self.backend.weight = 1
            self.backend.save()
        entry = self.only(found)
        self.assertEqual((entry.action, entry.changes["public_port"]), ("created", [None, 2]))

    def test_one_transaction_is_one_batch(self) -> None:
        with recorded() as found:
            with transaction.atomic():
                self.backend.weight = 4
                self.backend.save()
                make_tenant()
        self.assertEqual((len(found), len({each.batch for each in found})), (2, 1))

    def test_a_rolled_back_change_leaves_nothing(self) -> None:
        with recorded() as found:
            with self.assertRaises(RuntimeError), transaction.atomic():
                self.backend.delete()
                raise RuntimeError
            with self.assertRaises(RuntimeError), generations.batch():
                make_tenant()
                raise RuntimeError
        self.assertEqual(found, [])

    def test_fixtures(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            with path.open("w") as file:
                call_command("dumpdata", "tenants.Backend", "tenants.Credential", "tenants.PortClaim", stdout=file)
            path.write_text(path.read_text().replace('"weight": 1', '"weight": 6'))
            Credential.objects.all().delete()
            with recorded() as found:
                call_command("loaddata", str(path), verbosity=0)
        self.assertEqual([each.action for each in found], ["updated", "created"])
        self.assertEqual(found[0].changes, {"weight": [1, 6]})
        self.assertEqual(found[1].changes["secret"], [None, {"secret": fingerprint("not so secret")}])

    def test_a_row_that_goes_to_another_tenant_tells_neither_of_the_other(self) -> None:
        other = make_tenant(slug="rival", name="Rival")
        name = Hostname.objects.create(tenant=self.tenant, name="free.example.com")
        mapping = self.backend.port_mappings.get()
        theirs = make_backend(other, name="hidden")
        with recorded() as found:
            name.tenant = other
            name.save()
            mapping.backend = theirs
            mapping.save()
        self.assertEqual([each.tenant_slug for each in found], ["acme", "rival"] * 2)
        self.assertEqual([each.action for each in found], ["updated"] * 4)
        for entry, foreign in zip(found, ("Rival", "acme", "rival", "acme"), strict=True):
            self.assertNotIn(foreign, f"{entry.object_text} {entry.changes}")
        self.assertNotIn("hidden", f"{found[2].object_text} {found[2].changes}")
        self.assertNotIn("web", f"{found[3].object_text} {found[3].changes}")

    def test_a_value_that_is_the_same_locked_anew_is_no_change(self) -> None:
        credential = Credential.objects.get()
        with recorded() as found:
            credential.secret = "not so secret"
            credential.save()
            Credential.objects.bulk_update([credential], ["timeout"])
        self.assertEqual(found, [])

    def test_a_secret_that_no_key_opens_is_sealed(self) -> None:
        credential = Credential.objects.get()
        with override_settings(FIELD_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
            with recorded() as found:
                credential = Credential.objects.get()
                credential.secret = "another one"
                credential.save()
                Backend.objects.all().delete()
        old, new = {"secret": "sealed"}, {"secret": fingerprint("another one")}
        self.assertEqual(found[0].changes["secret"], [old, new])
        last = next(each for each in found[1:] if each.model == "tenants.credential")
        self.assertEqual(last.changes["secret"], [new, None])

    def test_very_long_values_are_kept_whole(self) -> None:
        networks = ", ".join(f"10.{number // 250}.{number % 250}.0/24" for number in range(1_000))
        with recorded() as found:
            PortMapping.objects.update(access_allow=networks)
        self.assertEqual(self.only(found).changes, {"access_allow": ["", networks]})

    def test_what_is_not_there_any_more_is_named_by_its_key(self) -> None:
        with recorded() as found, generations.batch() as batch:
            orphan = PortClaim(pk=5_000, backend_id=123_456, public_port=1)
            batch.recorder.created([orphan])
        self.assertEqual(self.only(found).changes["backend"], [None, {"id": 123_456, "text": "#123456"}])
        self.assertIsNone(found[0].tenant_key)

    def test_the_number_of_queries_does_not_grow_with_the_rows(self) -> None:
        def cost(number: int) -> int:
            tenant = make_tenant()
            backends = [Backend(tenant=tenant, name=f"b{index}") for index in range(number)]
            with CaptureQueriesContext(connection) as queries, generations.batch():
                Backend.objects.bulk_create(backends)
                PortMapping.objects.bulk_create([PortMapping(backend=each, public_port=80) for each in backends])
                Backend.objects.filter(tenant=tenant).update(weight=2)
                Backend.objects.filter(tenant=tenant).delete()
            inserts = [each for each in queries if "INSERT" in each["sql"]]
            return len(queries) - len(inserts)  # SQLite takes few rows in one

        with recorded() as found:
            self.assertEqual(cost(5), cost(50))
        self.assertEqual(
            [each.model for each in found], ["tenants.tenant"] * 2
        )  # what comes and goes in one transaction never was

    def test_update_conflicts_is_refused(self) -> None:
        with self.assertRaisesMessage(Exception, "use update_or_create"):
            Backend.objects.bulk_create(
                [self.backend], update_conflicts=True, update_fields=["weight"], unique_fields=["pk"]
            )


class FieldWalk(TestCase):
    """Every field of every model of the registry."""

    def rows(self) -> dict[type[models.Model], Any]:
        """Return a row of every model; none is stored, for no database would take all that is set here."""
        found: dict[type[models.Model], Any] = {}
        for model in registry_models():
            row = found[model] = OTHERS.build(model)
            for field in model._meta.concrete_fields:
                if isinstance(field, EncryptedTextField):
                    setattr(row, field.attname, {"NAME": "mellon"} if "JSON" in type(field).__name__ else "mellon")
        return found

    def other(self, field: Any, row: Any) -> Any:
        """Return another value for a field, as text or number or whatever it holds."""
        value = getattr(row, field.attname)
        if isinstance(field, models.ForeignKey):
            return (value or 0) + 100_000
        if field.choices:
            return next((choice for choice, _ in field.flatchoices if choice != value), "another")
        match field:
            case models.BooleanField():
                return not value
            case models.IntegerField():
                return (value or 0) + 3
            case models.DateTimeField():
                return "2030-01-02T03:04:05Z"
            case models.DateField():
                return "2030-01-02"
            case models.JSONField():
                return ["something", "else"]
            case EncryptedTextField():
                return {"NAME": "sesame"} if "JSON" in type(field).__name__ else "sesame"
        return f"{value}x"

    def test_a_change_of_any_field_is_on_record(self) -> None:
        rows = self.rows()
        walked = 0
        for model, row in rows.items():
            for field in model._meta.concrete_fields:
                if field.primary_key or field.name in row.not_on_record:
                    continue
                with self.subTest(field=str(field)):
                    value = self.other(field, row)
                    after = model.from_db(
                        "default",
                        [f.attname for f in model._meta.concrete_fields],
                        [row.__dict__[f.attname] for f in model._meta.concrete_fields],
                    )
                    setattr(after, field.attname, value)
                    with recorded() as found, generations.batch() as batch:
                        batch.recorder.changed(row, after)
                    entry = found[-1]
                    self.assertEqual(list(entry.changes), [field.name])
                    old, new = entry.changes[field.name]
                    self.assertNotEqual(old, new)
                    if isinstance(field, EncryptedTextField):
                        self.assertEqual(new, {"secret": fingerprint(field.to_plaintext(value))})
                        self.assertNotRegex(str(entry.changes), "sesame|mellon")
                    elif isinstance(field, models.ForeignKey):
                        self.assertEqual((old and old["id"], new["id"]), (getattr(row, field.attname), value))
                    elif not isinstance(field, models.DateField):
                        self.assertEqual([old, new], [getattr(row, field.attname), value])
                    walked += 1
        self.assertGreater(walked, 70)

    def test_all_of_a_row_that_goes_is_on_record(self) -> None:
        for model, row in self.rows().items():
            with self.subTest(model=model.__name__), recorded() as found, generations.batch() as batch:
                batch.recorder.deleted([row])
            kept = set(found[0].changes) | {"id"} | row.not_on_record
            for field in model._meta.concrete_fields:
                if row.__dict__[field.attname] not in (None, "", [], {}):
                    self.assertIn(field.name, kept)


def registry_models() -> list[type[RegistryModel]]:
    """Return the models of the registry."""
    return [model for model in apps.get_models() if issubclass(model, RegistryModel)]


class WhoTest(TestCase):
    """Who acts, and from where."""

    def setUp(self) -> None:
        # The tests themselves are a command's work.
        self.enterContext(journal.acting(user=None, name="", origin=journal.SYSTEM, address=""))

    def one(self) -> AuditEntry:
        make_tenant()
        return AuditEntry.objects.latest("pk")

    def test_nobody_in_particular_is_the_system(self) -> None:
        entry = self.one()
        self.assertEqual((entry.actor, entry.actor_name, entry.origin, entry.address), (None, "system", "system", ""))

    def test_somebody_who_is_not_logged_in_is_nobody(self) -> None:
        with journal.acting(user=AnonymousUser(), origin=journal.ADMIN):
            self.assertEqual(self.one().actor_name, "nobody")

    def test_contexts_nest(self) -> None:
        user = make_user("ann")
        with (
            journal.acting(user=user, origin=journal.ADMIN, address="2001:DB8::1"),
            journal.acting(origin=journal.IMPORT),
        ):
            entry = self.one()
        self.assertEqual((entry.actor, entry.actor_name, entry.origin), (user, "ann", "import"))
        self.assertEqual(entry.address, "2001:db8::1")
        self.assertEqual(self.one().actor_name, "system")

    def test_a_user_who_goes_stays_on_record(self) -> None:
        user = make_user("ann")
        with journal.acting(user=user):
            entry = self.one()
            key = user.pk
            user.delete()
        entry.refresh_from_db()
        self.assertEqual((entry.actor_id, entry.actor_name), (key, "ann"))
        self.assertIsNone(AuditEntry.objects.select_related("actor").get(pk=entry.pk).actor)

    def test_what_is_no_address_is_left_out(self) -> None:
        for text in ("", "testclient", "fe80::1%<script>", "unix:"):
            with journal.acting(address=text):
                self.assertNotIn("script", self.one().address)

    def test_a_forged_header_of_the_client_is_not_looked_at(self) -> None:
        user = make_user("ann", is_staff=True, is_superuser=True)
        self.client.force_login(user)
        address = "/admin/tenants/tenant/add/"
        self.client.post(
            address,
            {**fields_of(self.client.get(address)), "slug": "forged"},
            REMOTE_ADDR="192.0.2.7",
            HTTP_X_FORWARDED_FOR="198.51.100.1",
            HTTP_FORWARDED="for=198.51.100.1",
        )
        entry = AuditEntry.objects.filter(model="tenants.tenant").latest("pk")
        self.assertEqual((entry.object_text, entry.actor, entry.address), ("forged", user, "192.0.2.7"))
        self.assertEqual(entry.origin, "admin")

    def test_imports_say_so(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(
                "backends:\n  - name: a\n    hostname: a.example.com\n    nexusAddresses: [wss://n.example.com/connect]\n"
                f"    authToken: {make_token(hostnames=['a.example.com'])}\n"
                "    portMappings:\n      443: {default: 'localhost:1'}\n"
            )
            with journal.acting(name="root", origin=journal.COMMAND):
                call_command("import_config", str(path), stdout=StringIO(), stderr=StringIO())
        found = AuditEntry.objects.filter(origin="import")
        self.assertEqual({each.actor_name for each in found}, {"root"})
        self.assertIn("tenants.credential", {each.model for each in found})
        self.assertEqual(len({each.batch for each in found}), 1)

    def test_free_entries(self) -> None:
        backend = make_backend(make_tenant(slug="acme"), name="web")
        with journal.acting(name="node 7", origin=journal.VERIFIER):
            journal.record("token refused", backend, changes={"reason": ["ex\0pired\ud800"]})
        entry = AuditEntry.objects.latest("pk")
        self.assertEqual(
            (entry.action, entry.model, entry.object_text, entry.tenant_slug, entry.actor_name, entry.origin),
            ("token refused", "tenants.backend", "acme/web", "acme", "node 7", "verifier"),
        )
        self.assertEqual(entry.changes, {"reason": ["ex␀pired?"]})


class GateTest(TestCase):
    """Who reads the trail."""

    def test_owners_read_their_tenants_entries_and_nobody_else_does(self) -> None:
        acme, rival = make_tenant(slug="acme"), make_tenant(slug="rival")
        make_served_backend(acme)
        make_served_backend(rival)
        make_node()
        users = {role: make_user(role) for role in Role.values}
        for role, user in users.items():
            Membership.objects.create(user=user, tenant=acme, role=role)
        seen = AuditEntry.objects.for_user(users["owner"])
        self.assertEqual(set(seen.values_list("tenant_slug", flat=True)), {"acme"})
        self.assertEqual(seen.count(), AuditEntry.objects.filter(tenant_slug="acme").count())
        for other in (users["editor"], users["viewer"], make_user("stranger"), make_user("off", is_active=False), None):
            self.assertFalse(AuditEntry.objects.for_user(other).exists())
        operator = make_user("operator", is_superuser=True)
        self.assertEqual(AuditEntry.objects.for_user(operator).count(), AuditEntry.objects.count())


class FinalTest(TestCase):
    """Entries are added, never changed."""

    def check(self, using: str) -> None:
        with journal.acting(user=None, name="somebody"):
            make_tenant(using)
        rows = AuditEntry.objects.using(using)
        entry = rows.latest("pk")
        for write in (entry.save, entry.delete, rows.delete, lambda: rows.update(action="x")):
            with self.assertRaises(AuditTrailIsFinal):
                write()
        with self.assertRaisesRegex(Exception, "only ever added to"):
            with transaction.atomic(using=using), connections[using].cursor() as cursor:
                cursor.execute("UPDATE tenants_auditentry SET actor_name = 'somebody else'")
        self.assertEqual(rows.latest("pk").actor_name, "somebody")

    def test_on_sqlite(self) -> None:
        self.check("default")


@tag("slow")
class OtherDatabaseTest(unittest.TestCase):
    """What only real databases show."""

    def test_entries_are_final_on_postgresql(self) -> None:
        with postgres_database() as alias:
            FinalTest.check(self, alias)  # type: ignore[arg-type]

    def test_thousands_of_rows_come_and_go_on_postgresql(self) -> None:
        with postgres_database() as alias:
            tenant = make_tenant(alias, slug="big")
            backends = [Backend(tenant=tenant, name=f"b{number}") for number in range(1_500)]
            with journal.acting(user=None, name="é\t\\N"):
                Backend.objects.using(alias).bulk_create(backends)
                mappings = [
                    PortMapping(backend=each, public_port=80, default_target="localhost:1") for each in backends
                ]
                PortMapping.objects.using(alias).bulk_create(mappings)
                with CaptureQueriesContext(connections[alias]) as queries:
                    tenant.delete()
            self.assertLess(len(queries), 100)
            odd = entries.Entry("noted", changes={"a\0": ["\ud800", "😀"]})
            for number in (1, 100):
                entries.write([odd] * number, alias)
            self.assertEqual(
                [each.changes for each in AuditEntry.objects.using(alias).filter(action="noted")],
                [{"a␀": ["?", "😀"]}] * 101,
            )
            rows = AuditEntry.objects.using(alias)
            self.assertEqual(rows.filter(action="created").count(), 3_001)
            self.assertEqual(rows.filter(action="deleted").count(), 3_001)
            self.assertEqual(len(set(rows.filter(action="deleted").values_list("batch", flat=True))), 1)
            last = rows.filter(model="tenants.portmapping").first()
            assert last is not None
            self.assertEqual((last.object_text, last.actor_name), ("big/b1499: tcp:80", "é\t\\N"))
            self.assertEqual(last.changes["default_target"], ["localhost:1", None])

    def test_two_writers_at_once_each_record_their_own(self) -> None:
        for place in (sqlite_database, postgres_database):
            with self.subTest(place=place.__name__), place() as alias:
                backend = make_backend(make_tenant(alias), alias)
                barrier = threading.Barrier(2)
                threads = [
                    threading.Thread(target=write_often, args=(alias, backend.pk, name, barrier))
                    for name in ("one", "two")
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                found = AuditEntry.objects.using(alias).filter(action="updated").order_by("pk")
                self.assertEqual([each.changes["weight"] for each in found], [[n, n + 1] for n in range(1, 41)])
                self.assertEqual(sorted(each.actor_name for each in found), ["one"] * 20 + ["two"] * 20)


def write_often(alias: str, key: int, name: str, barrier: threading.Barrier) -> None:
    """Change a backend twenty times, as somebody."""
    try:
        barrier.wait()
        for _ in range(20):
            with journal.acting(name=name), transaction.atomic(using=alias):
                Backend.objects.using(alias).filter(pk=key).update(weight=F("weight") + 1)
    finally:
        connections[alias].close()
