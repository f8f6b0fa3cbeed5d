"""Tests of relay.routing: the recorded look-ups, precedence, equality."""

import json
from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InvalidValue
from relay.routing import PortRoutes, RouteTable

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "routing.json"
NAMES = st.lists(st.sampled_from(["a", "b", "co", "*"]), min_size=1, max_size=4).map(".".join)
HOSTS = st.dictionaries(NAMES, st.sampled_from(["x:1", "y:2"]), max_size=5)


class VectorTests(SimpleTestCase):
    def test_recorded_look_ups(self) -> None:
        for group in json.loads(VECTORS.read_text()):
            table = RouteTable.build(
                PortRoutes("tcp", int(port), mapping["default"], mapping["hosts"] or {})
                for port, mapping in group["port_mappings"].items()
            )
            for case in group["cases"]:
                with self.subTest(case):
                    self.assertEqual(table.resolve(case["port"], case["hostname"]), case["target"])


class RouteTableTests(SimpleTestCase):
    def test_the_empty_table_routes_nothing(self) -> None:
        self.assertIsNone(RouteTable().resolve(443, "app.example.com"))
        self.assertEqual(RouteTable(), RouteTable.build([]))
        self.assertEqual(hash(RouteTable()), hash(RouteTable.build([])))

    def test_transports_are_apart(self) -> None:
        table = RouteTable.build([PortRoutes("tcp", 53, "t:53"), PortRoutes("udp", 53, "u:53")])
        self.assertEqual(table.resolve(53, "tcp:53"), "t:53")
        self.assertEqual(table.resolve(53, "udp:53", "udp"), "u:53")
        self.assertEqual([routes.transport for routes in table], ["tcp", "udp"])

    def test_an_empty_label_is_no_label_for_a_wildcard(self) -> None:
        table = RouteTable.build([PortRoutes("tcp", 443, None, {"*.example.com": "w:1"})])
        self.assertEqual(table.resolve(443, "a.example.com"), "w:1")
        self.assertIsNone(table.resolve(443, ".example.com"))

    def test_what_would_be_ambiguous_is_refused(self) -> None:
        with self.assertRaises(InvalidValue):
            RouteTable.build([PortRoutes("tcp", 443), PortRoutes("tcp", 443)])
        with self.assertRaises(InvalidValue):
            RouteTable.build([PortRoutes("tcp", 443, None, {"a.com": "x:1", "A.com.": "y:1"})])

    def test_equality_is_by_content_and_not_by_order_or_spelling(self) -> None:
        one = RouteTable.build(
            [PortRoutes("tcp", 1, "a:1"), PortRoutes("tcp", 2, "", {"A.com": "x:1", "b.com": "y:1"})]
        )
        two = RouteTable.build(
            [PortRoutes("tcp", 2, None, {"b.com": "y:1", "a.com": "x:1"}), PortRoutes("tcp", 1, "a:1")]
        )
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one, RouteTable.build([PortRoutes("tcp", 1, "a:2")]))
        self.assertNotEqual(one, 1)

    def test_the_caller_s_mapping_is_not_kept(self) -> None:
        hosts = {"a.com": "x:1"}
        table = RouteTable.build([PortRoutes("tcp", 1, None, hosts)])
        hosts["a.com"] = "y:1"
        self.assertEqual(table.resolve(1, "a.com"), "x:1")

    @given(HOSTS, st.sampled_from([None, "d:1"]), NAMES)
    def test_precedence(self, hosts: dict[str, str], default: str | None, name: str) -> None:
        table = RouteTable.build([PortRoutes("tcp", 443, default, hosts)])
        expected = hosts.get(name)
        if expected is None and "." in name:
            expected = hosts.get("*." + name.partition(".")[2])
        self.assertEqual(table.resolve(443, name), expected or default)
