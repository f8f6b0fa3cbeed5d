"""Tests of relay.config.addresses."""

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config import NodeConfig
from relay.config.addresses import check_node_address, check_port, check_status_address, without_query
from relay.errors import InvalidValue


class NodeAddressTests(SimpleTestCase):
    GOOD = {
        "wss://nexus-1.example.com/connect": "wss://nexus-1.example.com/connect",
        "WSS://Nexus.Example.com./connect": "wss://nexus.example.com/connect",
        "wss://nexus.example.com": "wss://nexus.example.com/connect",
        "wss://nexus.example.com/": "wss://nexus.example.com/connect",
        "wss://nexus.example.com:443/connect": "wss://nexus.example.com/connect",
        "wss://nexus.example.com:8443/other/path": "wss://nexus.example.com:8443/other/path",
        "wss://[2001:DB8::0:1]:8443/connect": "wss://[2001:db8::1]:8443/connect",
        "wss://203.0.113.9/connect": "wss://203.0.113.9/connect",
        "wss://bücher.example/connect": "wss://xn--bcher-kva.example/connect",
        "ws://localhost:9000/connect": "ws://localhost:9000/connect",
        "ws://127.0.0.2:80": "ws://127.0.0.2/connect",
        "ws://[::1]:9000/connect": "ws://[::1]:9000/connect",
    }
    BAD = {
        "": "empty",
        "nexus.example.com": "no scheme",
        "https://nexus.example.com/connect": "scheme https",
        "://nexus": "scheme",
        "wss://": "no host",
        "wss:///connect": "no host",
        "wss://nexus.example.com:0/": "port",
        "wss://nexus.example.com:65536/": "port",
        "wss://nexus.example.com:x/": "port",
        "wss://nexus.example.com:/": "port",
        "wss://::1/connect": "brackets",
        "wss://[::1/connect": "address",
        "wss://[nexus]/connect": "address",
        "wss://[::1]x/connect": "brackets",
        "wss://a b/connect": "space",
        "wss://a\n/connect": "space or a control",
        "wss://1.2.3.4.5/connect": "IPv4",
        "wss://*.example.com/connect": "no valid host",
        "wss://nexus.example.com/ü": "percent-encoded",
        "ws://nexus.example.com/connect": "not encrypted",
        "ws://10.0.0.1/connect": "not encrypted",
    }

    def test_good_addresses(self) -> None:
        for text, expected in self.GOOD.items():
            with self.subTest(text):
                self.assertEqual(check_node_address(text), expected)
                self.assertEqual(check_node_address(expected), expected)

    def test_bad_addresses(self) -> None:
        for text, words in self.BAD.items():
            with self.subTest(text), self.assertRaisesRegex(InvalidValue, words):
                check_node_address(text)

    def test_a_query_is_kept_and_not_shown(self) -> None:
        address = "wss://nexus.example.com/connect?key=hunter2&a=b"
        self.assertEqual(check_node_address("wss://Nexus.example.com?key=hunter2&a=b"), address)
        self.assertEqual(without_query(address), "wss://nexus.example.com/connect")
        self.assertNotIn("hunter2", NodeConfig(address).shown)

    def test_insecure_addresses_can_be_allowed(self) -> None:
        address = "ws://nexus.example.com:80/connect"
        self.assertEqual(check_node_address(address, allow_insecure=True), "ws://nexus.example.com/connect")

    def test_credentials_are_refused_and_not_shown(self) -> None:
        for text in (
            "wss://user:hunter2@nexus.example.com/connect",
            "wss://nexus.example.com/connect?token=hunter2 x",
            "wss://user:hunter2?x@nexus.example.com/connect",
            "wss://user:hunter2/x@nexus.example.com/connect",
            "wss://nexus.example.com/connect#hunter2",
            "https://hunter2@nexus.example.com/?hunter2",
            "wss://hunter2@[::1/connect",
            "wss://user:hunter2@nexus.example.com:99999/connect",
        ):
            with self.subTest(text), self.assertRaises(InvalidValue) as raised:
                check_node_address(text)
            self.assertNotIn("hunter2", str(raised.exception))

    @given(st.text() | st.text("ws:/[].a1@?#%", max_size=30).map(lambda text: "wss://" + text))
    def test_any_text_is_an_address_or_an_invalid_value(self, text: str) -> None:
        try:
            address = check_node_address(text)
        except InvalidValue:
            return
        self.assertEqual(check_node_address(address), address)


class StatusAddressTests(SimpleTestCase):
    def test_https_alone(self) -> None:
        self.assertEqual(check_status_address("https://a.example/x?y"), "https://a.example/x?y")
        for text in ("http://a.example/", "a.example", "https://", "https:///x", "https://a b/", "https://[::1", ""):
            with self.subTest(text), self.assertRaisesRegex(InvalidValue, "write https://HOST/PATH or leave it out"):
                check_status_address(text)


class PortTests(SimpleTestCase):
    def test_good_ports(self) -> None:
        for value, expected in ((1, 1), (65535, 65535), ("443", 443)):
            self.assertEqual(check_port(value), expected)

    def test_bad_ports(self) -> None:
        for value in (
            0,
            -1,
            65536,
            True,
            443.0,
            "",
            "0443",
            "0x1",
            " 443",
            "443 ",
            "４４３",
            None,
            [443],
            10**400,
            "65536",
        ):
            with self.subTest(value), self.assertRaisesRegex(InvalidValue, "listen port"):
                check_port(value, "listen port")
