"""Tests of relay.config.served_names: what nodes serve beyond the names that new ones may have."""

from django.test import SimpleTestCase

from relay.config.hostnames import check_hostname
from relay.config.served_names import check_route_pattern, check_served_name, oddity
from relay.errors import InvalidValue


class ServedNameTests(SimpleTestCase):
    def test_odd_names_are_taken_and_told(self) -> None:
        for text, name, words in (
            ("-A.example.com", "-a.example.com", "hyphen"),
            ("*.a-.example.com", "*.a-.example.com", "hyphen"),
            ("192.0.2.1", "192.0.2.1", "IP address"),
        ):
            with self.subTest(text):
                self.assertRaises(InvalidValue, check_hostname, text)
                self.assertEqual((check_served_name(text), check_route_pattern(text)), (name, name))
                self.assertIn(words, oddity(name))
        self.assertEqual(oddity(check_served_name("App.example.com.")), "")

    def test_what_no_user_can_ask_for_is_refused(self) -> None:
        for text in (
            "",
            "*",
            "a.*.com",
            "a b.com",
            "a..com",
            "tcp:53",
            f"{'a' * 64}.com",
            f"{'a.' * 127}com",
            "a$.com",
        ):
            with self.subTest(text):
                self.assertRaises(InvalidValue, check_served_name, text)
                self.assertRaises(InvalidValue, check_route_pattern, text)

    def test_a_route_may_stand_for_a_whole_top_level_domain(self) -> None:
        self.assertEqual(check_route_pattern("*.CO"), "*.co")
        self.assertRaisesRegex(InvalidValue, "whole top-level domain", check_served_name, "*.co")
