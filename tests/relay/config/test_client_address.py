"""Tests of relay.config.client_address."""

from __future__ import annotations

from ipaddress import ip_address

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config.client_address import ClientAddress, parse_client_address


class ParseTests(SimpleTestCase):
    def test_what_nodes_write(self) -> None:
        for text, ip, port in (
            ("203.0.113.9:51234", "203.0.113.9", 51234),
            ("[2001:db8::1]:51234", "2001:db8::1", 51234),
            ("203.0.113.9", "203.0.113.9", 0),
            ("2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9", 1),
            ("[fe80::1%eth0]:9", "fe80::1", 9),
        ):
            self.assertEqual(parse_client_address(text), ClientAddress(ip_address(ip), port), text)

    def test_anything_else_is_no_address(self) -> None:
        for text in ("", "x", "host:80", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:٣", "[::1", "[::1]x", "1:2:3"):
            self.assertIsNone(parse_client_address(text), text)

    @given(st.text(max_size=60))
    def test_it_never_raises(self, text: str) -> None:
        parse_client_address(text)

    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_every_address_is_read(self, ip, port: int) -> None:
        text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
        mapped = getattr(ip, "ipv4_mapped", None)
        self.assertEqual(parse_client_address(text), ClientAddress(mapped or ip, port))
