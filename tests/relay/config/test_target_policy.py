"""Tests of relay.config.target_policy."""

import ipaddress
import socket
from unittest import TestCase

from hypothesis import example, given
from hypothesis import strategies as st

from relay.config.target_policy import (
    EVERYWHERE,
    OPEN,
    SPECIAL,
    USUAL,
    TargetPolicy,
    addresses_of,
    normal_target_network,
    parse_port_ranges,
    port_ranges_text,
    target_refusal,
)
from relay.config.targets import Target, parse_target
from relay.errors import InvalidValue

ORDINARY = ("10.1.2.3", "192.168.0.1", "100.64.0.1", "192.0.2.1", "8.8.8.8", "fd12::1", "2001:db8::1", "2600::1")
REFUSED = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.23",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::a9fe:a9fe%2",
    "febf::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
)
DISGUISED = {
    "::ffff:127.0.0.1": "mapped",
    "::ffff:7f00:1": "mapped, in hexadecimal digits",
    "0:0:0:0:0:ffff:a9fe:a9fe": "mapped, in full",
    "::127.0.0.1": "compatible",
    "::ffff:0:127.0.0.1": "translated",
    "64:ff9b::169.254.169.254": "NAT64",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b:1::1": "NAT64 with a local prefix",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::1": "6to4",
    "2001:0:7f00:1::": "Teredo, the server",
    "2001:0:4136:e378:8000:63bf:80ff:fffe": "Teredo, the client 127.0.0.1, inverted",
    "2001:db8::5efe:127.0.0.1": "ISATAP",
    "2001:db8::200:5efe:a9fe:a9fe": "ISATAP",
    "::1%lo": "with a zone",
    "::ffff:127.0.0.1%lo": "mapped, with a zone",
}


class UsualTests(TestCase):
    def test_the_ordinary_network(self) -> None:
        for policy in (TargetPolicy(), TargetPolicy((USUAL,))):
            for address in ORDINARY:
                self.assertEqual(policy.refusal(address, 443), "", address)

    def test_what_is_special(self) -> None:
        for policy in (TargetPolicy(), TargetPolicy((USUAL,)), TargetPolicy((USUAL, "10.0.0.0/8"))):
            for address in (*REFUSED, *DISGUISED):
                self.assertFalse(policy.permits(address, 443), address)

    def test_the_edges_of_every_special_network(self) -> None:
        for network, what in SPECIAL:
            for ip in (network[0], network[-1]):
                self.assertIn(what, TargetPolicy().refusal(str(ip), 1))
        for neighbour in ("126.255.255.255", "128.0.0.0", "1.0.0.0", "100.100.100.199", "100.100.100.201", "fec0::"):
            self.assertTrue(TargetPolicy().permits(neighbour, 1), neighbour)

    def test_the_words(self) -> None:
        self.assertEqual(
            TargetPolicy().refusal("127.0.0.1", 80),
            "127.0.0.1 is the relay's own machine, which the tenant's policy for targets does not allow: "
            "choose another target, or have an operator allow the tenant 127.0.0.1",
        )
        self.assertRegex(
            TargetPolicy(whose="site").refusal("64:ff9b::7f00:1", 80),
            "^64:ff9b::7f00:1 leads to 127.0.0.1, and that is the relay's own machine, which the site's policy",
        )
        self.assertRegex(TargetPolicy().unix_refusal(), "^a Unix socket is on the relay's own machine, .* Unix")

    def test_what_is_no_address(self) -> None:
        for text in ("", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "127.0.0.1 ", "\0", "%lo"):
            self.assertFalse(OPEN.permits(text, 80), text)

    @given(st.ip_addresses(v=4))
    @example(ipaddress.IPv4Address("127.0.0.1"))
    def test_a_disguise_is_judged_as_what_it_hides(self, ip: ipaddress.IPv4Address) -> None:
        permitted = TargetPolicy().permits(str(ip), 1)
        number = int(ip)
        for disguise in (
            0xFFFF << 32 | number,  # mapped
            0xFFFF << 48 | number,  # translated
            0x0064_FF9B << 96 | number,  # NAT64
            0x2002 << 112 | number << 80,  # 6to4
        ):
            self.assertEqual(TargetPolicy().permits(str(ipaddress.IPv6Address(disguise)), 1), permitted)

    @given(st.ip_addresses())
    def test_python_knows_no_more_that_is_local(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            self.assertFalse(TargetPolicy().permits(str(ip), 1))


class ListedTests(TestCase):
    def test_nothing_but_what_is_listed(self) -> None:
        policy = TargetPolicy(("10.0.0.0/8", "2001:db8::/32"))
        self.assertTrue(policy.permits("10.1.2.3", 1) and policy.permits("2001:db8::1", 1))
        self.assertTrue(policy.permits("::ffff:10.1.2.3", 1))
        for address in ("11.0.0.1", "127.0.0.1", "2001:db9::1", "::1", "64:ff9b::10.1.2.3"):
            self.assertFalse(policy.permits(address, 1), address)
        self.assertRegex(policy.refusal("11.0.0.1", 1), "^11.0.0.1 is in none of its networks, .* allow the tenant 11")

    def test_listing_lifts_the_refusal(self) -> None:
        policy = TargetPolicy((USUAL, "127.0.0.1/32", "::1/128", "fe80::/10"))
        for address in (*ORDINARY, "127.0.0.1", "::ffff:127.0.0.1", "::1", "fe80::1%eth0"):
            self.assertEqual(policy.refusal(address, 1), "", address)
        for address in ("127.0.0.2", "169.254.169.254", "::"):
            self.assertFalse(policy.permits(address, 1), address)

    def test_one_family_says_nothing_of_the_other(self) -> None:
        self.assertFalse(TargetPolicy(("::/0",)).permits("127.0.0.1", 1))
        self.assertFalse(TargetPolicy(("::/0",)).permits("::ffff:127.0.0.1", 1))
        self.assertFalse(TargetPolicy(("::/0",)).permits("64:ff9b::127.0.0.1", 1))
        self.assertFalse(TargetPolicy(("0.0.0.0/0",)).permits("::1", 1))
        self.assertFalse(TargetPolicy(("0.0.0.0/0",)).permits("2001:db8::1", 1))

    @given(st.ip_addresses())
    def test_everywhere(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.assertTrue(OPEN.permits(str(ip), 1))

    def test_everywhere_holds_what_is_special(self) -> None:
        for address in (*REFUSED, *DISGUISED):
            self.assertEqual(OPEN.refusal(address, 1), "", address)
        self.assertEqual(OPEN.unix_refusal(), "")

    def test_what_is_open(self) -> None:
        self.assertTrue(OPEN.is_open)
        for policy in (
            TargetPolicy(),
            TargetPolicy(EVERYWHERE),
            TargetPolicy(("0.0.0.0/0",), unix=True),
            TargetPolicy(EVERYWHERE, ((1, 65535),), unix=True),
        ):
            self.assertFalse(policy.is_open)


class LibraryTests(TestCase):
    def test_networks_of_programs_are_read_in_any_form(self) -> None:
        policy = TargetPolicy(("::ffff:127.0.0.1", "10.0.0.1"))
        self.assertEqual(
            [policy.permits(text, 1) for text in ("127.0.0.1", "10.0.0.1", "10.0.0.2")], [True, True, False]
        )
        for text in ("10.0.0.1/8", "everywhere", ""):
            with self.assertRaises(InvalidValue):
                TargetPolicy((text,))


class PortTests(TestCase):
    def test_ranges(self) -> None:
        policy = TargetPolicy(ports=((80, 80), (8000, 8999)))
        self.assertEqual(
            [port for port in (79, 80, 81, 7999, 8000, 8999, 9000) if policy.permits("10.0.0.1", port)],
            [80, 8000, 8999],
        )
        self.assertRegex(policy.refusal("10.0.0.1", 22), "^port 22 is not among 80, 8000-8999, which the tenant's")

    def test_texts(self) -> None:
        for text, normal in {
            "": "",
            "80": "80",
            " 443 ,8000 - 8999,443,": "443, 8000-8999",
            "1-1, 1-65535": "1, 1-65535",
        }.items():
            self.assertEqual(port_ranges_text(parse_port_ranges(text)), normal)
        for text in ("http", "0", "65536", "1-65536", "9-8", "-1", "1-", "1:2", "٤", "1 2", "+1"):
            with self.assertRaises(InvalidValue, msg=text):
                parse_port_ranges(text)

    @given(st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted).map(tuple), unique=True))
    def test_texts_are_read_back(self, ranges: list[tuple[int, int]]) -> None:
        self.assertEqual(parse_port_ranges(port_ranges_text(ranges)), tuple(ranges))


class NetworkTextTests(TestCase):
    def test_normal_forms(self) -> None:
        for text, normal in {" Usual ": "usual", "10.0.0.1": "10.0.0.1/32", "::FFFF:127.0.0.1": "127.0.0.1/32"}.items():
            self.assertEqual(normal_target_network(text), normal)
        for text in ("", "localhost", "10.0.0.1/8", "fe80::1%eth0", "all"):
            with self.assertRaises(InvalidValue, msg=text):
                normal_target_network(text)


class TargetTests(TestCase):
    def refused(self, text: str, *policies: TargetPolicy) -> str:
        return target_refusal(parse_target(text), policies or (TargetPolicy(),))

    def test_addresses_and_localhost(self) -> None:
        for text in (
            "127.0.0.1:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[::1]:80",
            "[fe80::1%eth0]:80",
            "localhost:80",
            "LOCALHOST:80",
            "localhost.:80",
            "a.b.localhost:80",
            "0x7f000001:80",
            "127.0.0.0x1:80",
            "unix:/run/app.sock",
        ):
            self.assertTrue(self.refused(text), text)
            self.assertEqual(self.refused(text, OPEN), "", text)
            self.assertEqual(target_refusal(parse_target(text), ()), "", text)
        for text in ("10.0.0.1:80", "app.example.com:80", "localhost.example.com:80", "mylocalhost:80", "abc:80"):
            self.assertEqual(self.refused(text), "", text)

    def test_localhost_is_permitted_where_one_of_its_addresses_is(self) -> None:
        self.assertEqual(self.refused("localhost:80", TargetPolicy(("127.0.0.1/32",))), "")

    def test_ports_of_names(self) -> None:
        self.assertRegex(self.refused("app.example.com:22", TargetPolicy(ports=((80, 80),))), "^port 22 ")

    def test_all_policies_count(self) -> None:
        self.assertRegex(self.refused("127.0.0.1:80", OPEN, TargetPolicy(whose="site")), "the site's policy")

    def test_what_never_comes_from_a_text(self) -> None:
        for host in ("127.1", "2130706433", "0177.1", "0X7F.1", "127.0.1", "017700000001"):
            self.assertTrue(target_refusal(Target("tcp", host=host, port=80), (TargetPolicy(),)), host)
        self.assertTrue(target_refusal(Target("unix", path="\0abstract"), (TargetPolicy(),)))

    @given(st.text("0123456789abcfxX.", min_size=1, max_size=16))
    @example("256.1")
    @example("1.16777216")
    @example("08.1")
    @example("0x.1")
    def test_spelled_addresses_are_what_the_c_library_makes_of_them(self, name: str) -> None:
        try:
            expected = (socket.inet_ntoa(socket.inet_aton(name)),)
        except OSError:
            expected = ()
        if not name.endswith("."):
            self.assertEqual(addresses_of(name), expected)
