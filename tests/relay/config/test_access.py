"""Tests of relay.config.access."""

from __future__ import annotations

import ipaddress

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config.access import Access, normal_network
from relay.config.client_address import ClientAddress, parse_client_address
from relay.config.port_options import AccessList
from relay.errors import InvalidValue

SMALL = st.integers(0, 255).map(lambda number: ipaddress.ip_address(f"10.0.0.{number}"))
NETWORKS = st.lists(
    st.tuples(SMALL, st.integers(20, 32)).map(lambda pair: str(ipaddress.ip_network(pair, strict=False))), max_size=6
)


class NormalFormTests(SimpleTestCase):
    def test_networks(self) -> None:
        for text, normal in (
            ("192.0.2.7", "192.0.2.7/32"),
            (" 192.0.2.0/24 ", "192.0.2.0/24"),
            ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ):
            self.assertEqual(normal_network(text), normal)
            self.assertEqual(normal_network(normal), normal)

    def test_errors_name_the_remedy(self) -> None:
        for text, words in (
            ("192.0.2.7/24", "write 192.0.2.0/24"),
            ("example.com", "neither an address nor a network"),
            ("", "neither an address nor a network"),
            ("192.0.2.0/33", "neither"),
            ("fe80::1%eth0", "zone"),
        ):
            with self.assertRaisesMessage(InvalidValue, words):
                normal_network(text)


class AdmissionTests(SimpleTestCase):
    def _admits(self, client: str, **rules) -> bool:
        return Access(AccessList(**rules)).admits(parse_client_address(client))

    def test_an_empty_list_lets_everybody_in(self) -> None:
        for client in ("192.0.2.7:1", "[2001:db8::1]:1", "nonsense", ""):
            self.assertTrue(self._admits(client))

    def test_deny_wins(self) -> None:
        rules = {"allow": ("192.0.2.0/24", "2001:db8::/32"), "deny": ("192.0.2.128/25", "2001:db8:1::/48")}
        for client, admitted in (
            ("192.0.2.7:1", True),
            ("192.0.2.200:1", False),
            ("198.51.100.1:1", False),
            ("[2001:db8:2::1]:1", True),
            ("[2001:db8:1::1]:1", False),
            ("[::ffff:192.0.2.7]:1", True),
            ("[::ffff:192.0.2.200]:1", False),
        ):
            self.assertEqual(self._admits(client, **rules), admitted, client)

    def test_who_has_no_address_needs_an_empty_allow_list(self) -> None:
        self.assertFalse(self._admits("?", allow=("0.0.0.0/0", "::/0")))
        self.assertTrue(self._admits("?", deny=("0.0.0.0/0", "::/0")))

    @given(NETWORKS, NETWORKS, SMALL)
    def test_it_says_what_ipaddress_says(self, allow, deny, ip) -> None:
        def held(networks):
            return any(ip in ipaddress.ip_network(text) for text in networks)

        expected = not held(deny) and (not allow or held(allow))
        rules = AccessList(allow=tuple(allow), deny=tuple(deny))
        self.assertEqual(Access(rules).admits(ClientAddress(ip)), expected)
