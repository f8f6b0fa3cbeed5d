"""Tests of tenants.rules.ownership: whose a name is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from unittest import mock

import time_machine
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import FieldError, ValidationError
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from relay.config import HmacSecret
from relay.configfile import BackendDocument, ConfigDocument, ConfigFileError, parse_config
from tenants.models import (
    AuditEntry,
    Backend,
    BackendHostname,
    Domain,
    Hostname,
    HostnameGrant,
    Membership,
    Role,
    Tenant,
    VerifiedBy,
)
from tenants.models.hostname_grant import MOST_GRANTS
from tenants.rules import ownership
from tenants.services.audit.revert import CanNotRevert, revert
from tenants.services.config_import.importer import import_config
from tests.support.registry import make_backend, make_domain, make_tenant

User = get_user_model()


class OwnershipCase(TestCase):
    def setUp(self) -> None:
        self.acme, self.other = make_tenant(slug="acme"), make_tenant(slug="rival", name="Rival & Co")

    def add(self, tenant: Tenant, *names: str) -> list[Hostname]:
        return [Hostname.objects.create(tenant=tenant, name=name) for name in names]

    def grant(self, tenant: Tenant, name: str, to: Tenant) -> HostnameGrant:
        return HostnameGrant.objects.create(tenant=tenant, name=name, grantee_slug=to.slug)

    def assertRefused(self, words: str, write: Any, *args: Any) -> None:
        with self.assertRaisesMessage(ValidationError, words) as caught, transaction.atomic():
            write(*args)
        for told in ("rival", "Rival"):
            self.assertNotIn(told, str(caught.exception))


class HostnameTest(OwnershipCase):
    def test_a_name_stands_once_however_it_is_written(self) -> None:
        self.add(self.other, "bücher.example.com")
        for text in (
            "bücher.example.com",
            "BÜCHER.example.com.",
            " xn--bcher-kva.example.com",
            "Bu\u0308cher.EXAMPLE.com",
        ):
            for tenant in (self.acme, self.other):
                with self.subTest(text=text, tenant=tenant.slug):
                    self.assertRefused("taken", self.add, tenant, text)
        self.assertRefused(
            "twice.example.com: This hostname is taken",
            Hostname.objects.bulk_create,
            [Hostname(tenant=self.acme, name=name) for name in ("twice.example.com", "TWICE.example.com")],
        )

    def test_names_under_anothers_wildcard_and_wildcards_over_anothers_names(self) -> None:
        self.add(self.other, "*.w.example.com", "x.n.example.com")
        self.assertRefused(ownership.UNDER_WILDCARD, self.add, self.acme, "a.w.example.com")
        self.assertRefused(ownership.OVER_NAMES, self.add, self.acme, "*.n.example.com")
        # A wildcard stands for one label: these have nothing to do with them.
        self.add(self.acme, "w.example.com", "a.b.w.example.com", "*.b.w.example.com", "n.example.com", "*.example.com")
        self.add(self.other, "b.w.example.com", "*.x.n.example.com", "c.w.example.com", "*.n.example.com")

    def test_they_conflict_among_the_rows_of_one_batch_too(self) -> None:
        rows = [
            Hostname(tenant=self.acme, name="*.example.com"),
            Hostname(tenant=self.acme, name="a.example.com"),
            Hostname(tenant=self.other, name="b.example.com"),
        ]
        self.assertRefused(ownership.OVER_NAMES, Hostname.objects.bulk_create, rows)
        Hostname.objects.bulk_create(rows[:2])
        self.assertRefused(ownership.UNDER_WILDCARD, Hostname.objects.bulk_create, rows[2:])

    def test_the_most_specific_proved_domain_decides(self) -> None:
        make_domain(self.other, "example.com")
        make_domain(self.acme, "example.org")
        for name in ("example.com", "a.example.com", "*.example.com", "*.a.b.example.com", "a.b.c.example.com"):
            self.assertRefused(ownership.UNDER_DOMAIN, self.add, self.acme, name)
        make_domain(self.acme, "mine.example.com")
        self.add(self.acme, "mine.example.com", "a.mine.example.com", "*.mine.example.com", "notexample.com")
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, self.other, "b.mine.example.com")
        self.assertRefused(ownership.OVER_NAMES, self.add, self.other, "*.example.com")
        make_domain(self.acme, "empty.example.com")
        make_domain(self.other, "empty.example.org")
        self.assertRefused(ownership.OVER_DOMAIN, self.add, self.acme, "*.example.org")

    def test_claims_that_are_not_proved_decide_nothing(self) -> None:
        make_domain(self.other, "example.com", by=None)
        self.add(self.acme, "a.example.com", "*.b.example.com")

    def test_grants(self) -> None:
        make_domain(self.other, "example.com")
        self.add(self.other, "*.w.example.com", "x.n.example.com")
        wanted = ["a.w.example.com", "*.n.example.com", "deep.shop.example.com", "*.shop.example.com"]
        self.grant(make_tenant(), "example.com", self.acme)  # by somebody whose it is not
        self.grant(self.acme, "example.com", self.other)
        for name in wanted:
            self.assertRefused("Another tenant" if name[0] != "*" else "", self.add, self.acme, name)
        grants = [
            self.grant(self.other, name, self.acme) for name in ("w.example.com", "n.example.com", "shop.example.com")
        ]
        third = make_tenant()
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, third, wanted[0])
        names = self.add(self.acme, *wanted)
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, self.acme, "example.com")
        for grant in grants:
            grant.delete()
        # What is there stays, and can be saved; new ones are refused.
        for name in names:
            Hostname.objects.get(pk=name.pk).save()
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, self.acme, "b.w.example.com")
        self.assertRefused(ownership.UNDER_DOMAIN, self.rename, names[0], "c.w.example.com")

    def rename(self, hostname: Hostname, name: str) -> None:
        row = Hostname.objects.get(pk=hostname.pk)
        row.name = name
        row.save(update_fields=["name"])

    def test_renaming_and_moving(self) -> None:
        make_domain(self.other, "example.com")
        [free] = self.add(self.acme, "free.example.net")
        self.assertRefused(ownership.UNDER_DOMAIN, self.rename, free, "a.example.com")
        self.rename(free, "Other.Example.Net.")
        free.refresh_from_db()
        self.assertEqual(
            (free.name, free.parent, free.reversed_name), ("other.example.net", "example.net", "net.example.other.")
        )
        [theirs] = self.add(self.other, "theirs.example.com")
        theirs.tenant = self.acme
        self.assertRefused(ownership.UNDER_DOMAIN, theirs.save)
        free.tenant = self.other
        free.save()
        for values in ({"name": "a.example.com"}, {"tenant": self.acme}, {"parent": "x"}, {"reversed_name": "x"}):
            with self.assertRaises(FieldError):
                Hostname.objects.update(**values)
        free.name = "a.example.com"
        with self.assertRaises(FieldError):
            Hostname.objects.bulk_update([free], ["name"])

    def test_every_other_way_to_add_one(self) -> None:
        make_domain(self.other, "example.com")
        backend = make_backend(self.acme)
        for write in (
            lambda: Hostname.objects.get_or_create(tenant=self.acme, name="a.example.com"),
            lambda: Hostname.objects.update_or_create(tenant=self.acme, name="a.example.com"),
            lambda: self.acme.hostnames.create(name="a.example.com"),
            lambda: backend.hostnames.create(tenant=self.acme, name="a.example.com"),
            lambda: Hostname.objects.bulk_create([Hostname(tenant=self.acme, name="a.example.com")]),
        ):
            self.assertRefused(ownership.UNDER_DOMAIN, write)
        self.assertFalse(BackendHostname.objects.exists())

    def test_a_fixture_fills_what_is_derived(self) -> None:
        [row] = self.add(self.acme, "*.a.example.com")
        text = json.loads(serializers.serialize("json", [row]))
        for name in ("parent", "reversed_name"):
            del text[0]["fields"][name]
        row.delete()
        with transaction.atomic():
            for each in serializers.deserialize("json", json.dumps(text)):
                each.save()
        row = Hostname.objects.get()
        self.assertEqual((row.parent, row.reversed_name), ("a.example.com", "com.example.a.*."))

    def test_very_long_names(self) -> None:
        name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
        self.add(self.acme, name)
        self.assertEqual(len(Hostname.objects.get().reversed_name), 254)
        self.assertRefused(ownership.OVER_NAMES, self.add, self.other, "*." + name.partition(".")[2])

    def test_a_batch_costs_as_many_queries_as_one_row(self) -> None:
        make_domain(self.other, "other.example")
        self.grant(self.other, "acme.other.example", self.acme)

        def queries(number: int) -> int:
            rows = [Hostname(tenant=self.acme, name=f"{i}.{number}.acme.other.example") for i in range(number)]
            rows += [Hostname(tenant=self.acme, name=f"*.{i}.{number}.example.com") for i in range(number)]
            for row in rows:
                row.normalise()
            with CaptureQueriesContext(connection) as captured:
                Hostname.check_rows(rows, "default")
            return len(captured)

        self.assertEqual(queries(2), queries(70))


class ImportTest(OwnershipCase):
    def run_import(self, *names: str, tenant: str = "acme", **options: Any) -> Any:
        backend = BackendDocument(
            name="edge",
            hostnames=names,
            nexus_addresses=("wss://n.example.com/connect",),
            port_mappings=(),
            credential=HmacSecret("s" * 32),
        )
        return import_config(ConfigDocument((backend,), "nexus.yaml"), tenant=tenant, **options)

    def test_each_conflict_stands_at_its_line(self) -> None:
        self.add(self.other, "*.w.example.com", "taken.example.com")
        make_domain(self.other, "example.org")
        text = """
backends:
  - name: edge
    hostnames: [fine.example.com, taken.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    portMappings: {"443": {default: "localhost:1"}}
    attestation: {hmacSecret: "0123456789012345678901234567890123"}
  - name: more
    hostnames:
      - a.w.example.com
      - b.example.org
    nexusAddresses: ["wss://nexus.example.com/connect"]
    portMappings: {"443": {default: "localhost:1"}}
    attestation: {hmacSecret: "0123456789012345678901234567890123"}
"""
        document = parse_config(text.encode(), "nexus.yaml")
        for dry_run in (True, False):
            with self.assertRaises(ConfigFileError) as caught:
                import_config(document, tenant="acme", dry_run=dry_run)
            told = [str(problem) for problem in caught.exception.problems]
            self.assertEqual([line.split(":")[1] for line in told], ["4", "10", "11"])
            for line, words in zip(told, ("taken.example.com", "wildcard", "proved"), strict=True):
                self.assertIn(words, line)
            self.assertNotIn("Rival", "".join(told))
            self.assertFalse(Backend.objects.exists())

    def test_limits(self) -> None:
        Tenant.objects.filter(pk=self.acme.pk).update(max_hostnames=2, max_backends=1)
        self.run_import("a.example.com", "b.example.com")
        for dry_run in (True, False):
            with self.assertRaisesMessage(ConfigFileError, "has 2 hostnames and may have 2"):
                self.run_import("a.example.com", "c.example.com", dry_run=dry_run)
        self.run_import("c.example.com", "d.example.com", prune=True)


class LimitTest(OwnershipCase):
    def test_backends_and_hostnames(self) -> None:
        self.acme.max_backends = self.acme.max_hostnames = 2
        self.acme.save()
        backend = make_backend(self.acme)
        self.add(self.acme, "a.example.com")
        for write, words in (
            (lambda: [make_backend(self.acme), make_backend(self.acme)], "has 2 backends and may have 2"),
            (
                lambda: Backend.objects.bulk_create([Backend(tenant=self.acme, name=str(n)) for n in range(2)]),
                "has 1 backends and may have 2, and these would be 2 more",
            ),
            (lambda: self.add(self.acme, "b.example.com", "c.example.com"), "ask an operator"),
        ):
            with self.assertRaisesMessage(ValidationError, words), transaction.atomic():
                write()
        foreign = make_backend(self.other)
        make_backend(self.acme)
        foreign.tenant = self.acme
        with self.assertRaisesMessage(ValidationError, "one too many"):
            foreign.save()
        Tenant.objects.filter(pk=self.acme.pk).update(max_backends=1)
        backend.weight = 7
        backend.save()  # what is there may be changed


class DomainTest(OwnershipCase):
    def test_what_can_be_claimed(self) -> None:
        domain = make_domain(self.acme, " WWW.Bücher.Example. ", None)
        self.assertEqual(domain.name, "www.xn--bcher-kva.example")
        self.assertEqual(domain.record_name, "_nexusadmin.www.xn--bcher-kva.example")
        self.assertRegex(domain.record_value, r"^nexusadmin-domain=[0-9a-f]{32}$")
        for text in ("com", "localhost", "*.example.com", "", "192.0.2.1", "a b.example.com", "x." * 120 + "example"):
            with self.subTest(text), self.assertRaises(ValidationError):
                make_domain(self.acme, text, None)
        for text in ("co.uk", "github.io", "xn--55qx5d.cn"):
            for by in (None, VerifiedBy.DNS):
                self.assertRefused("Different people register names under", make_domain, self.acme, text, by)
            make_domain(self.acme, text)

    def test_several_may_claim_and_the_first_to_prove_wins(self) -> None:
        mine, theirs = make_domain(self.acme, "example.com", None), make_domain(self.other, "example.com", None)
        self.assertNotEqual(mine.token, theirs.token)
        mine.prove(VerifiedBy.DNS)
        mine.save()
        theirs.prove(VerifiedBy.DNS)
        self.assertRefused("has proved its claim", theirs.save)
        self.assertRefused("has proved its claim", make_domain, make_tenant(), "example.com")
        rows = [Domain(tenant=make_tenant(), name="batch.example.com") for _ in range(2)]
        for row in rows:
            row.prove(VerifiedBy.OPERATOR)
        self.assertRefused("has proved its claim", Domain.objects.bulk_create, rows)

    def test_a_domain_with_names_of_another_tenant_is_for_an_operator_to_settle(self) -> None:
        self.add(self.other, "a.example.com", "*.b.example.com")
        self.assertRefused(ownership.NAMES_UNDER_DOMAIN, make_domain, self.acme, "example.com")
        claim = make_domain(self.acme, "example.com", None)
        self.assertEqual(sorted(ownership.blockers(claim)), [("*.b.example.com", "rival"), ("a.example.com", "rival")])
        self.grant(self.acme, "a.example.com", self.other)
        self.assertEqual(ownership.blockers(claim), [("*.b.example.com", "rival")])
        make_domain(self.other, "b.example.com")  # a more specific one decides there
        self.assertEqual(ownership.blockers(claim), [])
        claim.prove(VerifiedBy.OPERATOR)
        claim.save()

    def test_neighbours_that_only_look_alike_are_not_under_it(self) -> None:
        self.add(self.other, "notexample.com", "example.com.evil.net", "a.example-com.net", "example.comx.net")
        make_domain(self.acme, "example.com")
        self.add(self.other, "a_b.under.example.org", "axb.under.example.org")
        self.add(self.acme, "c.under_.example.org")
        make_domain(self.acme, "under_.example.org")

    def test_a_domain_below_names_that_were_granted(self) -> None:
        """The owner of the domain above proves nothing about names that it let another tenant have."""
        make_domain(self.acme, "example.com")
        self.grant(self.acme, "shop.example.com", self.other)
        self.add(self.other, "a.shop.example.com")
        third = make_tenant()
        self.assertRefused(ownership.NAMES_UNDER_DOMAIN, make_domain, third, "shop.example.com")
        make_domain(self.other, "shop.example.com")
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, self.acme, "b.shop.example.com")

    def test_a_claim_keeps_its_domain_and_its_tenant(self) -> None:
        claim = make_domain(self.acme, "example.com")
        for values in ({"name": "example.net"}, {"tenant": self.other}):
            row = Domain.objects.get(pk=claim.pk)
            for name, value in values.items():
                setattr(row, name, value)
            self.assertRefused("keeps its domain", row.save)
        for values in ({"name": "a.example"}, {"token": "x"}, {"verified_by": "dns"}, {"tenant": self.other}):
            with self.assertRaises(FieldError):
                Domain.objects.update(**values)

    def test_a_tenant_has_so_many_pending_claims_only(self) -> None:
        rows = [Domain(tenant=self.acme, name=f"d{n}.example") for n in range(ownership.MOST_PENDING)]
        Domain.objects.bulk_create(rows)
        with self.assertRaisesMessage(ValidationError, "prove some, or delete some"):
            make_domain(self.acme, "one.more.example", None)
        make_domain(self.other, "one.more.example", None)
        make_domain(self.acme, "given.example")

    def test_a_tenant_makes_so_many_claims_in_an_hour_only(self) -> None:
        with mock.patch.object(ownership, "MOST_MADE", 3):
            for number in range(3):
                make_domain(self.acme, f"d{number}.example", None).delete()
            with self.assertRaisesMessage(ValidationError, "3 claims of the tenant may be made in an hour"):
                make_domain(self.acme, "one.more.example", None)
            make_domain(self.other, "one.more.example", None)
            make_domain(self.acme, "given.example")
            with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
                make_domain(self.acme, "one.more.example", None)

    def test_a_deleted_tenant_leaves_its_domains_and_names_to_others(self) -> None:
        make_domain(self.other, "example.com")
        self.add(self.other, "a.example.com")
        self.assertRefused("taken", self.add, self.acme, "a.example.com")
        self.other.delete()
        make_domain(self.acme, "example.com")
        self.add(self.acme, "a.example.com")


class GrantTest(OwnershipCase):
    def test_a_slug_that_nobody_has_is_taken_as_well_and_stays_nobodys(self) -> None:
        make_domain(self.acme, "example.com")
        inert = HostnameGrant.objects.create(tenant=self.acme, name="shop.example.com", grantee_slug="not-yet")
        late = make_tenant(slug="not-yet")
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, late, "shop.example.com")
        inert.name = "other.example.com"
        self.assertRefused("A grant is not changed", inert.save)
        inert.delete()
        self.grant(self.acme, "shop.example.com", late)
        self.add(late, "shop.example.com")

    def test_a_grant_is_for_the_tenant_that_had_the_slug(self) -> None:
        make_domain(self.acme, "example.com")
        grant = self.grant(self.acme, "example.com", self.other)
        self.other.slug = "renamed"
        self.other.save()
        self.add(self.other, "a.example.com")
        self.assertRefused(ownership.UNDER_DOMAIN, self.add, make_tenant(slug="rival"), "b.example.com")
        known = AuditEntry.objects.filter(model="tenants.hostnamegrant").count()
        self.other.delete()
        grant.refresh_from_db()
        self.assertEqual(AuditEntry.objects.filter(model="tenants.hostnamegrant").count(), known)
        self.assertNotIn("grantee", AuditEntry.objects.filter(model="tenants.hostnamegrant").get().changes)
        self.assertEqual((grant.grantee_slug, grant.grantee), ("rival", None))

    def test_a_tenant_grants_itself_nothing(self) -> None:
        with self.assertRaisesMessage(ValidationError, "no grant of its own"):
            self.grant(self.acme, "example.com", self.acme)

    def test_a_tenant_gives_so_many_grants_only(self) -> None:
        rows = [HostnameGrant(tenant=self.acme, name=f"g{n}.example", grantee_slug="x") for n in range(MOST_GRANTS)]
        HostnameGrant.objects.bulk_create(rows)
        with self.assertRaisesMessage(ValidationError, "delete some"):
            self.grant(self.acme, "one.more.example", self.other)

    def test_what_is_taken_back_from_the_audit_trail_is_checked_like_what_is_entered(self) -> None:
        member = User.objects.create_user("member")
        Membership.objects.create(user=member, tenant=self.acme, role=Role.OWNER)
        claim = make_domain(self.acme, "example.com")
        [name] = self.add(self.acme, "a.example.com")
        name.delete()
        claim.delete()
        [of_name, of_claim] = [
            AuditEntry.objects.get(model=f"tenants.{model}", action="deleted") for model in ("hostname", "domain")
        ]
        with self.assertRaisesMessage(CanNotRevert, ownership.NO_DOMAIN):
            revert(of_name, member)
        revert(of_claim, member)
        again = Domain.objects.get()
        self.assertFalse(again.is_verified)
        self.assertNotEqual(again.token, claim.token)
        make_domain(self.other, "example.com")
        with self.assertRaisesMessage(CanNotRevert, ownership.UNDER_DOMAIN):
            revert(of_name, User.objects.create_superuser("operator"))

    def test_members_are_told_of_grants_by_who_owns_the_name(self) -> None:
        make_domain(self.acme, "example.com")
        for name in ("b.example.com", "a.example.com"):
            self.grant(self.acme, name, self.other)
        self.grant(make_tenant(), "spam.example.com", self.other)
        self.grant(make_tenant(), "spam.example.org", self.other)
        self.assertEqual(ownership.names_granted_to([self.other.pk], 10), ["a.example.com", "b.example.com"])
        self.assertEqual(ownership.names_granted_to([self.other.pk], 1), ["a.example.com"])

    def test_what_members_may_add_by_themselves(self) -> None:
        make_domain(self.acme, "acme.example")
        make_domain(self.other, "other.example")
        make_domain(self.other, "theirs.acme.example")
        self.grant(self.other, "shop.other.example", self.acme)
        self.grant(make_tenant(), "example.net", self.acme)
        allowed = {"acme.example", "*.acme.example", "a.b.acme.example", "shop.other.example", "*.shop.other.example"}
        refused = {"other.example", "example.net", "a.theirs.acme.example", "free.example.org", "xacme.example"}
        self.assertEqual(ownership.uncovered(self.acme.pk, allowed | refused), refused)
