"""Tests of relay.configfile.lenient: what is written, what it is taken as, and that this is said."""

from __future__ import annotations

from unittest import mock

from django.test import SimpleTestCase

from relay.configfile import lenient
from relay.configfile.lenient import read_hostname, read_listen_address, read_node_address, read_targets
from relay.errors import InvalidValue


class TargetTests(SimpleTestCase):
    def test_what_is_taken_as_something_else_is_said(self) -> None:
        for text, target in (
            (":8443", "localhost:8443"),
            ("localhost:08443", "localhost:8443"),
            ("localhost:+80", "localhost:80"),
            ("web:http", "web:80"),
            ("[::1]:HTTPS", "[::1]:443"),
            (":1, b:02", "localhost:1,b:2"),
        ):
            with self.subTest(text):
                self.assertEqual(read_targets(text), (target, f"is taken as {target}"))

    def test_what_is_plain_is_not_remarked(self) -> None:
        for text in ("localhost:8443", " LOCALHOST:1 ", "unix:/run/a.sock", "[::1]:80", "a:1,b:2"):
            self.assertEqual(read_targets(text).remark, "", text)

    def test_what_can_never_be_dialled(self) -> None:
        for text in ("localhost", "8443", "localhost:0", ":", "a:99999", "a:nosuchservice", "http://a:80", "::1:80"):
            with self.subTest(text):
                self.assertRaises(InvalidValue, read_targets, text)

    def test_a_machine_without_a_list_of_services(self) -> None:
        lenient._port_of.cache_clear()
        self.addCleanup(lenient._port_of.cache_clear)
        with mock.patch("socket.getservbyname", side_effect=OSError):
            self.assertEqual(read_targets("a:imaps").value, "a:993")


class ListenTests(SimpleTestCase):
    def test_without_a_host_it_is_loopback(self) -> None:
        self.assertEqual(
            read_listen_address(":1080"), ("127.0.0.1:1080", "is taken as 127.0.0.1:1080, on loopback alone")
        )
        self.assertEqual(read_listen_address("127.0.0.1:1080"), ("127.0.0.1:1080", ""))
        for text in ("1080", "unix:/a", ""):
            self.assertRaises(InvalidValue, read_listen_address, text)


class NodeAddressTests(SimpleTestCase):
    def test_what_is_taken_as_something_else_is_said(self) -> None:
        for text, address, words in (
            ("https://a.example/connect", "wss://a.example/connect", "is taken as wss://a.example/connect"),
            ("HTTP://127.0.0.1:80/connect", "ws://127.0.0.1/connect", "is taken as ws://"),
            ("wss://a.example:08443/connect", "wss://a.example:8443/connect", ""),
            ("wss://a.example/connect#x", "wss://a.example/connect", "fragment"),
            ("wss://a.example/connect?key=hunter2", "wss://a.example/connect?key=hunter2", "query"),
            (" wss://a.example ", "wss://a.example/connect", ""),
        ):
            with self.subTest(text):
                found = read_node_address(text)
                self.assertEqual(found.value, address)
                self.assertIn(words, found.remark)
                self.assertEqual(bool(found.remark), bool(words))
                self.assertNotIn("hunter2", found.remark)

    def test_what_is_unsafe_stays_an_error(self) -> None:
        for text in (
            "ws://a.example",
            "http://a.example",
            "wss://user:hunter2@a.example",
            "https://user:hunter2@a.example",
            "wss://user:hunter2#x@a.example",
            "wss://user:hunter2?x@a.example",
        ):
            with self.subTest(text), self.assertRaises(InvalidValue) as raised:
                read_node_address(text)
            self.assertNotIn("hunter2", str(raised.exception))


class HostnameTests(SimpleTestCase):
    def test_odd_names(self) -> None:
        self.assertEqual(read_hostname("App.example.com"), ("app.example.com", ""))
        self.assertIn("no certificate", read_hostname("-a.example.com").remark)
