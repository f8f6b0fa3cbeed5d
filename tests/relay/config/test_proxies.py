"""Tests of relay.config.proxies: addresses of proxies, and whom NO_PROXY excludes."""

from __future__ import annotations

from unittest import TestCase

from relay.config.proxies import Proxy, excluded, parse_proxy, proxy_for
from relay.errors import InvalidValue


class AddressTests(TestCase):
    def test_addresses(self) -> None:
        for text, expected in (
            ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
            ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
            ("http://proxy.example/", Proxy("http", "proxy.example", 80)),
            ("https://proxy.example", Proxy("https", "proxy.example", 443)),
            ("SOCKS5://192.0.2.1", Proxy("socks5", "192.0.2.1", 1080)),
            ("socks5h://[2001:db8::1]:1081", Proxy("socks5h", "2001:db8::1", 1081)),
            ("http://us%40er:p%3Ass@h:1", Proxy("http", "h", 1, ("us@er", "p:ss"))),
            ("socks5h://user@h", Proxy("socks5h", "h", 1080, ("user", ""))),
            (" direct ", None),
            ("DIRECT", None),
        ):
            self.assertEqual(parse_proxy(text), expected, text)

    def test_a_credential_is_shown_nowhere(self) -> None:
        proxy = parse_proxy("http://user:hidden@[2001:db8::1]:3128")
        assert proxy is not None
        self.assertEqual((str(proxy), proxy.place), ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"))
        self.assertNotIn("hidden", repr(proxy))
        self.assertNotIn("user", repr(proxy))

    def test_what_is_no_proxy_is_refused_without_showing_it(self) -> None:
        for text in (
            "",
            "http://",
            "ftp://user:hidden@h:1",
            "socks4://user:hidden@h:1",
            "http://user:hidden@h:0",
            "http://user:hidden@h:99999",
            "http://user:hidden@h:x",
            "http://user:hidden@h/path",
            "http://user:hidden@h?query",
            "http://user:hidden@h#x",
            "http://user:hidden@a b",
            "http://user:hid/den@h",
            "http://us%3Aer:hidden@h",
            "http://user:hidden%0A@h",
            f"http://user:hidden{'x' * 250}@h",
            "user:hidden@h:x://",
        ):
            with self.assertRaises(InvalidValue, msg=text) as caught:
                parse_proxy(text, "NODE_PROXY")
            self.assertIn("NODE_PROXY", str(caught.exception))
            for secret in ("hidden", "hid/", "user:"):
                self.assertNotIn(secret, str(caught.exception).replace("USER:", ""), text)


class EnvironmentTests(TestCase):
    def chosen(self, host: str = "node.example", port: int = 443, secure: bool = True, **variables: str) -> str:
        return str(proxy_for(variables, host, port, secure=secure) or "")

    def test_which_variable_counts(self) -> None:
        self.assertEqual(self.chosen(), "")
        self.assertEqual(self.chosen(HTTPS_PROXY=""), "")
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", ALL_PROXY="b:1"), "http://a:1")
        self.assertEqual(self.chosen(https_proxy="a:1"), "http://a:1")
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", https_proxy="b:1"), "http://a:1")
        self.assertEqual(self.chosen(HTTP_PROXY="a:1"), "")
        self.assertEqual(self.chosen(HTTP_PROXY="a:1", secure=False), "http://a:1")
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", secure=False), "")
        self.assertEqual(self.chosen(all_proxy="socks5h://a:1", secure=False), "socks5h://a:1")
        with self.assertRaisesRegex(InvalidValue, "the variable HTTPS_PROXY"):
            self.chosen(HTTPS_PROXY="ftp://x")

    def test_loopback_is_never_asked_for(self) -> None:
        for host in ("localhost", "127.0.0.1", "::1", "node.localhost"):
            self.assertEqual(self.chosen(host, HTTPS_PROXY="a:1", ALL_PROXY="a:1"), "", host)

    def test_no_proxy_in_either_case(self) -> None:
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", NO_PROXY="node.example"), "")
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", no_proxy="x, node.example"), "")
        self.assertEqual(self.chosen(HTTPS_PROXY="a:1", NO_PROXY="other.example"), "http://a:1")

    def test_whom_no_proxy_excludes(self) -> None:
        for no_proxy, host, port, expected in (
            ("", "a.example", 443, False),
            ("*", "a.example", 443, True),
            ("x,*", "192.0.2.1", 443, True),
            ("example", "a.example", 443, True),
            ("a.example", "A.Example.", 443, True),
            ("a.example.", "a.example", 443, True),
            ("a.example", "b.a.example", 443, True),
            ("a.example", "ba.example", 443, False),
            (".a.example", "b.a.example", 443, True),
            (".a.example", "a.example", 443, False),
            ("*.a.example", "b.a.example", 443, True),
            ("*.a.example", "a.example", 443, False),
            ("a.example:443", "a.example", 443, True),
            ("a.example:443", "a.example", 8443, False),
            (".a.example:443", "b.a.example", 443, True),
            ("192.0.2.1", "192.0.2.1", 443, True),
            ("192.0.2.1:443", "192.0.2.1", 444, False),
            ("192.0.2.0/24", "192.0.2.77", 443, True),
            ("192.0.2.7/24", "192.0.2.77", 443, True),
            ("192.0.2.0/24", "192.0.3.77", 443, False),
            ("192.0.2.0/24", "192.0.2.77.example", 443, False),
            ("2001:db8::/32", "2001:db8::1", 443, True),
            ("[2001:db8::1]:443", "2001:db8::1", 443, True),
            ("[2001:db8::1]", "2001:db8::1", 443, True),
            ("2001:db8::1", "2001:db8:0::1", 443, True),
            ("x y\ta.example", "a.example", 443, True),
            ("/,:,.,*.,[,a:b:c,300.1.1.1/8", "a.example", 443, False),
            ("/,:,.,*.,[,a:b:c,300.1.1.1/8", "10.0.0.1", 443, False),
        ):
            self.assertIs(excluded(no_proxy, host, port), expected, (no_proxy, host, port))
