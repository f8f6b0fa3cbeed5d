"""Tests of tenants.services.domains, against a DNS server of their own."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from io import StringIO
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPSenderRefused
from typing import Any
from unittest import mock

import time_machine
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.test import TestCase, override_settings
from django.utils import timezone

from tenants import tasks
from tenants.models import AuditEntry, Domain, Hostname, HostnameGrant, Role, VerifiedBy
from tenants.rules import ownership
from tenants.services import domains
from tenants.services.txt_records import TxtAnswer
from tests.support.dns import DnsServer
from tests.support.registry import make_domain, make_tenant
from tests.tenants.admin.pages import make_user

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class ProofCase(TestCase):
    def setUp(self) -> None:
        self.dns = self.enterContext(DnsServer())
        self.enterContext(override_settings(DNS_RESOLVERS=[self.dns.address], DNS_TIMEOUT=1))
        self.acme, self.rival = make_tenant(slug="acme"), make_tenant(slug="rival")
        self.claim = make_domain(self.acme, "example.com", None)

    def publish(self, claim: Domain, *more: str) -> None:
        self.dns.zone[claim.record_name] = [*more, claim.record_value]

    def make_owner(self) -> None:
        owner = make_user("olga", acme=Role.OWNER)
        owner.email = "olga@example.com"
        owner.save()

    def checked(self, claim: Domain) -> Domain:
        domains.check(claim.pk)
        return Domain.objects.get(pk=claim.pk)


class ProofTest(ProofCase):
    def test_the_record_proves_the_claim(self) -> None:
        self.publish(self.claim, "v=spf1 -all", "x" * 400)
        row = self.checked(self.claim)
        self.assertEqual((row.verified_by, row.problem), ("dns", ""))
        self.assertIsNotNone(row.verified_at)
        self.assertIsNotNone(row.checked_at)
        self.assertEqual(self.dns.asked, ["_nexusadmin.example.com"])
        entry = AuditEntry.objects.filter(model="tenants.domain").first()
        self.assertEqual(set(entry.changes), {"verified_by", "verified_at"})

    def test_what_is_wrong_is_said_in_words(self) -> None:
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        other = make_domain(self.rival, "example.com", None)
        name = self.claim.record_name
        self.dns.zone["elsewhere.example.net"] = [self.claim.record_value]
        cases: list[tuple[Any, str]] = [
            ([], "There is no TXT record at _nexusadmin.example.com"),
            (["v=spf1 -all"], f"add one that says {self.claim.record_value}, to the letter"),
            ([other.record_value], "beside that of another claim"),
            ([self.claim.record_value + "0"], "says something else"),
            ([f"x {self.claim.record_value}"], "says something else"),
            ("elsewhere.example.net", "is an alias"),
            (None, "do not answer properly"),
            ("", "No DNS server answered for _nexusadmin.example.com within 1 seconds"),
        ]
        for held, words in cases:
            with self.subTest(words):
                self.dns.zone[name] = held
                row = self.checked(self.claim)
                self.assertIn(words, row.problem)
                self.assertFalse(row.is_verified)
        del self.dns.zone[name]
        self.assertIn("There is no TXT record", self.checked(self.claim).problem)
        with override_settings(DNS_RESOLVERS=[silent.getsockname()]):
            self.assertIn("No DNS server answered", self.checked(self.claim).problem)

    def test_the_first_of_several_claims_to_be_proved_wins(self) -> None:
        other = make_domain(self.rival, "example.com", None)
        self.dns.zone[self.claim.record_name] = [self.claim.record_value, other.record_value]
        self.assertTrue(self.checked(other).is_verified)
        row = self.checked(self.claim)
        self.assertFalse(row.is_verified)
        self.assertIn("Another tenant has proved its claim", row.problem)
        self.assertNotIn("rival", row.problem)
        other.delete()
        self.assertTrue(self.checked(self.claim).is_verified)

    def test_names_of_another_tenant_keep_it_from_standing(self) -> None:
        Hostname.objects.create(tenant=self.rival, name="a.example.com")
        self.publish(self.claim)
        row = self.checked(self.claim)
        self.assertEqual((row.is_verified, row.problem), (False, ownership.NAMES_UNDER_DOMAIN))
        HostnameGrant.objects.create(tenant=self.acme, name="a.example.com", grantee_slug="rival")
        self.assertTrue(self.checked(self.claim).is_verified)

    def test_a_proved_claim_stays_when_its_record_goes_and_that_is_noted(self) -> None:
        self.publish(self.claim)
        self.checked(self.claim)
        self.dns.zone.clear()
        with self.assertLogs("tenants.services.domains", "WARNING") as logs:
            row = self.checked(self.claim)
            self.checked(self.claim)  # said once
        self.assertEqual(len(logs.output), 1)
        self.assertTrue(row.is_verified)
        self.assertIn("There is no TXT record", row.problem)
        self.publish(self.claim)
        self.assertEqual(self.checked(self.claim).problem, "")

    def test_owners_are_told_and_a_proof_lapses_when_its_record_stays_away(self) -> None:
        self.make_owner()
        Hostname.objects.create(tenant=self.acme, name="a.example.com")
        with time_machine.travel(NOON, tick=False) as clock:
            self.publish(self.claim)
            self.checked(self.claim)
            self.dns.zone.clear()
            self.assertEqual(self.checked(self.claim).missing_since, NOON)
            [message] = mail.outbox
            self.assertEqual(message.subject, "[nexusadmin] acme: the record of example.com is gone")
            self.assertEqual(message.bcc, ["olga@example.com"])
            self.assertIn(f'_nexusadmin.example.com. IN TXT "{self.claim.record_value}"', message.body)
            self.assertIn("stays away for 30 days", message.body)
            clock.move_to(NOON + timedelta(days=29, hours=23))
            self.assertTrue(self.checked(self.claim).is_verified)
            clock.move_to(NOON + timedelta(days=30))
            self.dns.zone[self.claim.record_name] = None  # nobody could be asked, so nothing is known
            self.assertTrue(self.checked(self.claim).is_verified)
            del self.dns.zone[self.claim.record_name]
            with override_settings(DOMAIN_GRACE_DAYS=0):
                self.assertTrue(self.checked(self.claim).is_verified)
            row = self.checked(self.claim)
            self.assertEqual((row.is_verified, row.verified_by, row.missing_since), (False, "", None))
            self.assertIn("gone since 2026-03-01", row.problem)
            self.assertEqual(len(mail.outbox), 1)
            entry = AuditEntry.objects.filter(model="tenants.domain").first()
            self.assertEqual(entry.changes["verified_by"], ["dns", ""])
            self.assertTrue(Hostname.objects.filter(name="a.example.com").exists())
            self.publish(self.claim)
            self.assertTrue(self.checked(self.claim).is_verified)

    def test_who_has_the_domain_now_can_prove_it_when_the_former_proof_has_lapsed(self) -> None:
        new = make_domain(self.rival, "example.com", None)
        with time_machine.travel(NOON, tick=False) as clock:
            self.publish(self.claim)
            self.checked(self.claim)
            self.publish(new)
            self.checked(self.claim)
            self.assertFalse(self.checked(new).is_verified)
            clock.move_to(NOON + timedelta(days=31))
            self.checked(self.claim)
            self.assertTrue(self.checked(new).is_verified)

    def test_nobody_loses_a_claim_untold(self) -> None:
        self.make_owner()
        self.publish(self.claim)
        self.checked(self.claim)
        self.dns.zone.clear()
        with mock.patch.object(EmailMessage, "send", side_effect=ConnectionRefusedError):
            row = self.checked(self.claim)
        self.assertIsNone(row.missing_since)
        self.assertIn("There is no TXT record", row.problem)
        self.assertIsNotNone(self.checked(self.claim).missing_since)

    def test_an_owner_who_can_not_be_reached_keeps_no_domain(self) -> None:
        self.make_owner()
        refused = SMTPRecipientsRefused({"olga@example.com": (550, b"no such user")})
        for error, counts in (
            (SMTPRecipientsRefused({"olga@example.com": (450, b"later")}), False),
            (SMTPDataError(451, b"later"), False),
            (SMTPSenderRefused(550, b"who are you", "registry@example.com"), False),
            (refused, True),
            (SMTPDataError(554, b"looks like spam"), True),
            (ValueError("Invalid address"), True),
        ):
            claim = make_domain(self.acme, f"{type(error).__name__}-{counts}.example", None)
            with self.subTest(error):
                self.publish(claim)
                self.assertTrue(self.checked(claim).is_verified)
                del self.dns.zone[claim.record_name]
                with mock.patch.object(EmailMessage, "send", side_effect=error):
                    with self.assertLogs("tenants.services.domains", "WARNING") as logs:
                        row = self.checked(claim)
                self.assertEqual(row.missing_since is not None, counts)
                self.assertNotIn("olga", str([vars(record) for record in logs.records]))
                noted = AuditEntry.objects.filter(action="owners not told", object_id=str(claim.pk))
                self.assertEqual(noted.exists(), counts)
                with time_machine.travel(timezone.now() + timedelta(days=31)):
                    self.assertIs(self.checked(claim).is_verified, not counts)

    def test_a_record_that_comes_and_goes_is_told_once_a_day(self) -> None:
        self.make_owner()
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(3):
                self.publish(self.claim)
                self.checked(self.claim)
                self.dns.zone.clear()
                self.checked(self.claim)
                clock.shift(60)
            self.assertEqual(len(mail.outbox), 1)
            self.claim.delete()
            self.claim = make_domain(self.acme, "example.com", None)
            self.publish(self.claim)
            self.checked(self.claim)
            self.dns.zone.clear()
            self.assertIsNone(self.checked(self.claim).missing_since)
            self.assertEqual(len(mail.outbox), 1)
            clock.shift(timedelta(days=1))
            self.assertIsNotNone(self.checked(self.claim).missing_since)
            self.assertEqual(len(mail.outbox), 2)

    def test_a_record_that_comes_back_ends_the_grace(self) -> None:
        self.publish(self.claim)
        self.checked(self.claim)
        self.dns.zone.clear()
        self.checked(self.claim)
        self.publish(self.claim)
        row = self.checked(self.claim)
        self.assertEqual((row.is_verified, row.missing_since, row.problem), (True, None, ""))

    def test_who_asks_again_and_again_gets_one_look_up(self) -> None:
        for _ in range(3):  # as tasks that waited in a queue
            tasks.check_domain(self.claim.pk)
        self.assertEqual(len(self.dns.asked), 1)
        more = [make_domain(self.acme, f"d{number}.example", None) for number in range(domains.MAX_ASKED)]
        for claim in more:
            tasks.check_domain(claim.pk)
        self.assertEqual(len(self.dns.asked), domains.MAX_ASKED)
        other = make_domain(self.rival, "example.com", None)
        tasks.check_domain(other.pk)
        self.assertEqual(len(self.dns.asked), domains.MAX_ASKED + 1)
        with time_machine.travel(timezone.now() + timedelta(seconds=61)):
            tasks.check_domain(more[-1].pk)
        self.assertEqual(len(self.dns.asked), domains.MAX_ASKED + 2)

    def test_what_an_operator_gave_needs_no_record(self) -> None:
        given = make_domain(self.acme, "given.example")
        self.assertEqual((self.checked(given).problem, self.dns.asked), ("", []))

    def test_a_claim_that_is_gone_meanwhile_is_no_error(self) -> None:
        self.publish(self.claim)
        answer = domains.look_up(self.claim.record_name)
        key = self.claim.pk
        Domain.objects.filter(pk=key).delete()
        self.claim.pk = key
        domains.settle(self.claim, answer)
        domains.check(key)
        self.assertFalse(Domain.objects.exists())

    def test_names_in_other_alphabets(self) -> None:
        claim = make_domain(self.acme, "Bücher.example", None)
        self.dns.zone["_nexusadmin.xn--bcher-kva.example"] = [claim.record_value]
        self.assertTrue(self.checked(claim).is_verified)

    def test_a_name_of_the_longest_kind(self) -> None:
        name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 48])
        claim = make_domain(self.acme, name, None)
        self.publish(claim)
        self.assertTrue(self.checked(claim).is_verified)
        with self.assertRaisesMessage(ValidationError, "keep a domain to 240"):
            make_domain(self.acme, name + "e", None)


class RecheckTest(ProofCase):
    def asked(self) -> set[str]:
        self.dns.asked.clear()
        domains.recheck()
        return {name.removeprefix("_nexusadmin.") for name in self.dns.asked}

    def make(self, name: str, age: timedelta, checked: timedelta | None, by: VerifiedBy | None = None) -> None:
        claim = make_domain(self.acme, name, by)
        now = timezone.now()
        Domain.objects.filter(pk=claim.pk).update(created_at=now - age, checked_at=checked and now - checked)

    def test_whose_turn_it_is(self) -> None:
        hour, day = timedelta(hours=1), timedelta(days=1)
        self.make("young.example", hour, hour)
        self.make("older.example", 8 * day, hour)
        self.make("older-and-rested.example", 8 * day, 2 * day)
        self.make("abandoned.example", 91 * day, 2 * day)
        self.make("proved.example", 91 * day, hour, VerifiedBy.DNS)
        self.make("proved-and-rested.example", 91 * day, 2 * day, VerifiedBy.DNS)
        self.make("given.example", 91 * day, None, VerifiedBy.OPERATOR)
        due = {"example.com", "young.example", "older-and-rested.example", "proved-and-rested.example"}
        self.assertEqual(self.asked(), due)
        self.assertEqual(self.asked(), {"example.com", "young.example"})

    def test_the_job(self) -> None:
        self.publish(self.claim)
        call_command("housekeeping", "domains", stdout=StringIO())
        self.claim.refresh_from_db()
        self.assertTrue(self.claim.is_verified)
        self.assertEqual(domains.recheck(), "")

    def test_it_says_what_it_did(self) -> None:
        make_domain(self.acme, "other.example", None)
        self.publish(self.claim)
        self.assertEqual(domains.recheck(), "2 looked up, 1 proved")

    def test_a_tenant_that_makes_claims_anew_all_the_time_holds_up_nobody_else(self) -> None:
        hour, day = timedelta(hours=1), timedelta(days=1)
        self.make("waits.example", 91 * day, 2 * day, VerifiedBy.DNS)
        own = {"waits.example", "example.com"}
        with mock.patch.object(domains, "MAX_LOOKUPS", 10):
            for run in range(3):
                Domain.objects.filter(tenant=self.rival).delete()
                for number in range(20):
                    make_domain(self.rival, f"n{number}-{run}.example", None)
                asked = self.asked()
                self.assertEqual(len(asked), 10)
                self.assertLessEqual(own, asked)
                Domain.objects.filter(tenant=self.acme).update(checked_at=timezone.now() - 2 * day)
        with mock.patch.object(domains, "MAX_LOOKUPS", 4):
            # Of one tenant's, those that have waited longest, whether they were looked up once or never.
            Domain.objects.filter(tenant=self.acme).delete()
            self.make("old.example", 2 * day, None)
            self.make("new.example", hour, None)
            self.make("looked-up.example", 3 * day, 2 * hour)
            self.assertEqual(
                {name for name in self.asked() if not name.startswith("n")}, {"old.example", "looked-up.example"}
            )

    def test_a_claim_that_can_not_be_settled_keeps_no_other_from_it(self) -> None:
        other = make_domain(self.acme, "other.example", None)
        self.publish(other)
        settle = domains.settle

        def fail(claim: Domain, answer: TxtAnswer) -> None:
            if claim == self.claim:
                raise ValueError("a secret")
            settle(claim, answer)

        with mock.patch.object(domains, "settle", fail):
            with self.assertLogs("tenants.services.domains", "ERROR") as logs:
                self.assertEqual(domains.recheck(), "2 looked up, 1 proved")
        self.assertEqual(logs.records[0].domain, "example.com")
        self.assertNotIn("a secret", str(vars(logs.records[0])))
        self.claim.refresh_from_db()
        self.assertIsNotNone(self.claim.checked_at)
