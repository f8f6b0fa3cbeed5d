"""Tests of relay.targets.proxy_protocol, read back by the proxy-protocol library."""

from __future__ import annotations

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import is_unknown
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from relay.config.client_address import ClientAddress, parse_client_address
from relay.config.port_options import ProxyProtocol
from relay.errors import InvalidValue
from relay.targets.proxy_protocol import header

V1, V2 = ProxyProtocol.V1, ProxyProtocol.V2
PARSERS = {V1: ProxyProtocolV1(), V2: ProxyProtocolV2()}


class HeaderTests(SimpleTestCase):
    def test_version_1_to_the_letter(self) -> None:
        for client, line in (
            ("203.0.113.9:51234", b"PROXY TCP4 203.0.113.9 0.0.0.0 51234 443\r\n"),
            ("[2001:db8::1]:51234", b"PROXY TCP6 2001:db8::1 :: 51234 443\r\n"),
            ("[::ffff:203.0.113.9]:1", b"PROXY TCP4 203.0.113.9 0.0.0.0 1 443\r\n"),
            ("", b"PROXY UNKNOWN\r\n"),
        ):
            self.assertEqual(header(V1, parse_client_address(client), 443), line)

    def test_version_2_to_the_byte(self) -> None:
        got = header(V2, parse_client_address("203.0.113.9:51234"), 443, hostname="a.example", stream_id="id")
        self.assertEqual(
            got,
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x1d"
            + bytes([203, 0, 113, 9, 0, 0, 0, 0])
            + (51234).to_bytes(2, "big")
            + (443).to_bytes(2, "big")
            + b"\x02\x00\x09a.example\x05\x00\x02id",
        )

    def test_lengths_are_in_octets(self) -> None:
        got = header(V2, None, 443, hostname="é.example")
        self.assertEqual(got[12:], b"\x21\x00\x00\x0d\x02\x00\x0a" + "é.example".encode())

    @given(st.sampled_from([V1, V2]), st.ip_addresses(), st.integers(0, 65535), st.integers(1, 65535))
    def test_another_parser_reads_the_same(self, version, ip, port: int, public: int) -> None:
        client = parse_client_address(f"[{ip}]:{port}")
        assert client is not None
        result = PARSERS[version].unpack(header(version, client, public, hostname="app.example.com"))
        self.assertEqual((result.source[0], result.source[1], result.dest[1]), (client.ip, port, public))
        self.assertEqual(result.dest[0], type(client.ip)(0))
        if version is V2:
            self.assertEqual(result.tlv.authority, "app.example.com")

    def test_a_user_without_an_address_is_unknown(self) -> None:
        for version, parser in PARSERS.items():
            self.assertTrue(is_unknown(parser.unpack(header(version, None, 443))), version)

    def test_udp_has_a_header_of_its_own_in_version_2_only(self) -> None:
        client = ClientAddress(parse_client_address("192.0.2.1").ip, 53)  # type: ignore[union-attr]
        self.assertEqual(header(V2, client, 53, transport="udp")[13], 0x12)
        with self.assertRaisesMessage(InvalidValue, "choose v2"):
            header(V1, client, 53, transport="udp")

    def test_no_header_where_none_is_wanted(self) -> None:
        self.assertEqual(header(ProxyProtocol.NONE, None, 443), b"")

    @given(st.text(max_size=80))
    def test_no_text_of_a_node_gets_into_a_line(self, text: str) -> None:
        line = header(V1, parse_client_address(text), 443)
        self.assertTrue(line.startswith(b"PROXY ") and line.endswith(b"\r\n"))
        self.assertEqual(line.count(b"\n"), 1)
        self.assertLessEqual(len(line), 107)  # the longest that the specification allows
