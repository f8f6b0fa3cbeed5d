"""Tests of tenants.services.resolve.question: what can be asked, in the relay's normal form."""

from __future__ import annotations

from django.test import SimpleTestCase

from relay.errors import InvalidValue
from tenants.services.resolve.question import parse_question


class QuestionTests(SimpleTestCase):
    def test_what_is_no_parse_question(self) -> None:
        for host, port, client, transport, what in (
            ("app.example.com", 0, "", "tcp", "out of range"),
            ("app.example.com", 70000, "", "tcp", "out of range"),
            ("app.example.com", "x", "", "tcp", "is no port"),
            ("app.example.com", "0443", "", "tcp", "is no port"),
            ("app.example.com", -1, "", "tcp", "out of range"),
            ("tcp:53", 54, "", "tcp", "names another port"),
            ("udp:53", 53, "", "tcp", "names another port"),
            ("a\0b.example.com", 443, "", "tcp", "holds what no hostname does"),
            ("a\nb", 443, "", "tcp", "holds what no hostname does"),
            ("a" * 5000, 443, "", "tcp", "holds what no hostname does"),
            ("app.example.com", 443, "nobody", "tcp", "is no IP address"),
            ("app.example.com", 443, "", "sctp", "is not known"),
        ):
            with self.subTest(host=host[:20], port=port), self.assertRaisesRegex(InvalidValue, what):
                parse_question(host, port, client, transport)

    def test_the_relays_normal_form(self) -> None:
        self.assertEqual(parse_question(" API.Example.com. ", "443").hostname, "api.example.com")
        self.assertEqual(parse_question("BÜCHER.example", 443).hostname, "xn--bcher-kva.example")
        self.assertEqual(parse_question("anything.example.com", 53, transport="udp").hostname, "udp:53")
        self.assertEqual(parse_question("TCP:53", 53).hostname, "tcp:53")
        self.assertEqual(parse_question("", 443).hostname, "")
