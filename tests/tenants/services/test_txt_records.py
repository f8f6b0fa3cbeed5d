"""Tests of tenants.services.txt_records: what a DNS server says, and why it says nothing."""

from __future__ import annotations

from django.test import SimpleTestCase, override_settings

from tenants.services.txt_records import look_up
from tests.support.dns import DnsServer

NAME = "_nexusadmin.example.com"


class LookUpTests(SimpleTestCase):
    def setUp(self) -> None:
        self.dns = self.enterContext(DnsServer())
        self.enterContext(override_settings(DNS_RESOLVERS=[self.dns.address], DNS_TIMEOUT=1))

    def test_every_text_whole(self) -> None:
        self.dns.zone[NAME] = ["v=spf1 -all", "x" * 400]
        answer = look_up(NAME)
        self.assertEqual(answer.values, {"v=spf1 -all", "x" * 400})
        self.assertEqual((answer.problem, answer.failed), ("", False))

    def test_no_record(self) -> None:
        answer = look_up(NAME)
        self.assertIn(f"There is no TXT record at {NAME}.", answer.problem)
        self.assertFalse(answer.failed)

    def test_an_alias_is_not_followed(self) -> None:
        self.dns.zone[NAME] = "elsewhere.example.net"
        self.dns.zone["elsewhere.example.net"] = ["a proof of somebody else's"]
        answer = look_up(NAME)
        self.assertIn(f"{NAME} is an alias", answer.problem)
        self.assertEqual((answer.values, answer.failed), (frozenset(), False))

    def test_servers_that_fail_or_stay_silent_say_nothing_of_the_record(self) -> None:
        for kept, words in ((None, "do not answer properly"), ("", "within 1 seconds")):
            with self.subTest(words):
                self.dns.zone[NAME] = kept
                answer = look_up(NAME)
                self.assertIn(words, answer.problem)
                self.assertEqual((answer.values, answer.failed), (frozenset(), True))
