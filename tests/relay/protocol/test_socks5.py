"""Tests of relay.protocol.socks5: greetings, requests and garbage."""

from __future__ import annotations

import contextlib

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.socks5 import NotSocks, RequestRefused, greeting_reply, parse_greeting, parse_request
from tests.relay.sessions.test_socks import request


class GreetingTests(SimpleTestCase):
    def test_methods_with_and_without_no_authentication(self) -> None:
        for data, expected in (
            (b"\x05\x01\x00", (True, 3)),
            (b"\x05\x02\x01\x02more", (False, 4)),
            (b"\x05\x00", (False, 2)),
        ):
            self.assertEqual(parse_greeting(data), expected)
        for data in (b"", b"\x05", b"\x05\x02\x00"):
            self.assertIsNone(parse_greeting(data))
        self.assertEqual((greeting_reply(True), greeting_reply(False)), (b"\x05\x00", b"\x05\xff"))

    def test_what_is_not_socks5(self) -> None:
        with self.assertRaises(NotSocks):
            parse_greeting(b"GET / HTTP/1.1")


class ParseTests(SimpleTestCase):
    def test_addresses(self) -> None:
        for address, port, expected in (
            ("192.0.2.1", 25, "192.0.2.1:25"),
            ("2001:db8::1", 443, "[2001:db8::1]:443"),
            ("example.com", 80, "example.com:80"),
        ):
            data = request(address, port)
            self.assertEqual(parse_request(data + b"more"), (expected, len(data)))
            for size in range(len(data)):
                self.assertIsNone(parse_request(data[:size]))

    @given(st.binary(max_size=300))
    def test_nothing_makes_it_raise_anything_else(self, data: bytes) -> None:
        with contextlib.suppress(RequestRefused):
            parsed = parse_request(b"\x05\x01\x00" + data)
            if parsed is not None:
                self.assertLessEqual(len(parsed[0]), 260)
