"""Tests of relay.routing: the recorded look-ups, precedence, equality."""

import json
from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config.hostnames import normalise_pattern
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

    def test_a_name_that_no_dns_has_is_not_even_the_default_s(self) -> None:
        table = RouteTable.build(
            [PortRoutes("tcp", 443, "d:1", {"*.example.com": "w:1"}), PortRoutes("tcp", 80, "e:1")]
        )
        self.assertEqual(table.resolve(443, "a" * 63 + ".example.com"), "w:1")
        for name in ("a" * 64 + ".example.com", "a." * 125 + "example.com", "a" * 64, "é" * 64 + ".example.com"):
            self.assertIsNone(table.resolve(443, name))
            self.assertIsNone(table.resolve(80, name))

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

    @given(HOSTS, st.lists(st.tuples(NAMES, st.sampled_from(["x:1", "y:2", None])), max_size=8))
    def test_a_changed_table_is_the_one_that_would_have_been_built(self, hosts, changes) -> None:
        table = first = RouteTable.build([PortRoutes("tcp", 443, "d:1", hosts), PortRoutes("udp", 443, "u:1", hosts)])
        expected = dict(next(iter(RouteTable.build([PortRoutes("tcp", 443, None, hosts)]))).hosts)
        before = repr(first)
        for name, target in changes:
            key = normalise_pattern(name)
            if target is None:
                table = table.without_route(443, name)
                expected.pop(key, None)
            else:
                table = table.with_route(443, name, target)
                expected[key] = target
        built = RouteTable.build([PortRoutes("tcp", 443, "d:1", expected), PortRoutes("udp", 443, "u:1", hosts)])
        self.assertEqual(table, built)
        self.assertEqual(hash(table), hash(built))
        self.assertEqual(repr(first), before)

    @given(HOSTS, HOSTS, st.sampled_from(["d:1", None]), st.booleans())
    def test_an_updated_table_is_the_one_that_would_have_been_built(self, before, after, default, udp) -> None:
        table = RouteTable.build([PortRoutes("tcp", 443, "d:1", before), PortRoutes("tcp", 80, "e:1")])
        wanted = [PortRoutes("tcp", 443, default, after)] + [PortRoutes("udp", 443, "u:1", before)] * udp
        updated, built = table.updated(wanted), RouteTable.build(wanted)
        self.assertEqual((updated, hash(updated)), (built, hash(built)))
        self.assertIs(updated.updated(wanted), updated)

    def test_an_update_of_a_few_of_many_shares_the_others(self) -> None:
        hosts = {f"h{number}.example.com": "x:1" for number in range(5000)}
        table = RouteTable.build([PortRoutes("tcp", 443, hosts=hosts)])
        hosts |= {"h7.example.com": "y:2", "*.new.example.com": "z:3"}
        del hosts["h8.example.com"]
        updated = table.updated([PortRoutes("tcp", 443, hosts=hosts)])
        self.assertEqual(updated, RouteTable.build([PortRoutes("tcp", 443, hosts=hosts)]))
        (old,), (new,) = table, updated
        shared = [a is b for a, b in zip(old.hosts._shards, new.hosts._shards, strict=True)]
        self.assertLessEqual(shared.count(False), 3)
        other = {f"n{number}.example.com": "x:1" for number in range(5000)}
        self.assertEqual(
            table.updated([PortRoutes("tcp", 443, hosts=other)]),
            RouteTable.build([PortRoutes("tcp", 443, hosts=other)]),
        )

    def test_a_change_of_one_of_many_shares_the_others(self) -> None:
        hosts = {f"h{number}.example.com": "x:1" for number in range(5000)}
        table = RouteTable.build([PortRoutes("tcp", 443, hosts=hosts)])
        changed = table.with_route(443, "H7.example.com", "y:2").with_route(443, "*.new.example.com", "z:3")
        (old,), (new,) = table, changed
        shared = [a is b for a, b in zip(old.hosts._shards, new.hosts._shards, strict=True)]
        self.assertGreaterEqual(shared.count(True), len(shared) - 2)
        self.assertGreater(len(shared), 10)
        self.assertEqual(len(new.hosts), 5001)
        self.assertEqual(changed.resolve(443, "h7.example.com"), "y:2")
        self.assertEqual(changed.resolve(443, "a.new.example.com"), "z:3")
        self.assertEqual(changed.match(443, "a.new.example.com").pattern, "*.new.example.com")
        self.assertEqual(table.resolve(443, "h7.example.com"), "x:1")
        self.assertEqual(dict(new.hosts), hosts | {"h7.example.com": "y:2", "*.new.example.com": "z:3"})
        back = changed.with_route(443, "h7.example.com", "x:1").without_route(443, "*.new.example.com")
        self.assertEqual((back, hash(back)), (table, hash(table)))
        with self.assertRaisesMessage(InvalidValue, "map it first"):
            table.with_route(80, "a.example.com", "x:1")

    def test_a_table_that_grows_route_by_route_is_sharded_too(self) -> None:
        table = RouteTable.build([PortRoutes("tcp", 443)])
        for number in range(1500):
            table = table.with_route(443, f"h{number}.example.com", "x:1")
        (mapping,) = table
        self.assertGreater(len(mapping.hosts._shards), 1)
        self.assertEqual((len(mapping.hosts), table.resolve(443, "h1499.example.com")), (1500, "x:1"))
        self.assertIs(table.with_route(443, "h7.example.com", "x:1"), table)
        self.assertIs(table.without_route(443, "unknown.example.com"), table)

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
