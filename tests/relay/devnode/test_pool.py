from collections import Counter
from typing import Any
from unittest import TestCase

from relay.config import Claims, UdpRoute
from relay.devnode.pool import Pool


class Member:
    """As much of a session as the pool looks at."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims


def member(*hostnames: str, **claims: Any) -> Any:
    return Member(Claims(hostnames=hostnames, **claims))


class PoolTests(TestCase):
    def setUp(self) -> None:
        self.pool = Pool()

    def test_exact_before_wildcard(self) -> None:
        exact, wildcard = member("a.example.com"), member("*.example.com")
        self.pool.add(wildcard)
        self.pool.add(exact)
        self.assertIs(self.pool.by_hostname("a.example.com"), exact)
        self.assertIs(self.pool.by_hostname("b.example.com"), wildcard)

    def test_a_wildcard_stands_for_one_label(self) -> None:
        self.pool.add(member("*.example.com"))
        for name in ("example.com", "a.b.example.com", "com", ""):
            self.assertIsNone(self.pool.by_hostname(name), name)

    def test_load_is_shared_by_weight(self) -> None:
        light, heavy = member("a.test", weight=1), member("a.test", weight=3)
        self.pool.add(light)
        self.pool.add(heavy)
        picks = [self.pool.by_hostname("a.test") for _ in range(40)]
        self.assertEqual(Counter(map(id, picks)), {id(light): 10, id(heavy): 30})
        self.assertLessEqual(sum(pick is light for pick in picks[:4]), 1)

    def test_claimed_ports(self) -> None:
        claimer = member(tcp_ports=(53,), udp_routes=(UdpRoute(53),))
        self.pool.add(claimer)
        self.assertIs(self.pool.by_port("tcp", 53), claimer)
        self.assertIs(self.pool.by_port("udp", 53), claimer)
        self.assertIsNone(self.pool.by_port("udp", 54))

    def test_the_removed_get_nothing(self) -> None:
        gone, stays = member("a.test"), member("a.test", "b.test")
        self.pool.add(gone)
        self.pool.add(stays)
        self.pool.remove(gone)
        self.assertEqual({id(self.pool.by_hostname("a.test")) for _ in range(3)}, {id(stays)})
        self.pool.remove(stays)
        self.assertIsNone(self.pool.by_hostname("a.test"))
