"""Tests of relay.targets.balancing."""

import asyncio
from collections import Counter
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from relay.config.port_options import PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.config.target_policy import TargetPolicy
from relay.config.targets import Target, parse_target, parse_targets
from relay.connect_handler import ConnectRequest
from relay.errors import InvalidValue
from relay.routing import PortRoutes, Route, RouteTable
from relay.targets.balancing import REMEMBERED, Balancer, RoutedDial, checks_of
from relay.targets.dialing import Dialer
from relay.targets.health import HealthChecks

HEALTH = TargetHealth(interval=1)
TURNS = PortOptions(target_order=TargetOrder.ROUND_ROBIN)
CHECKED = PortOptions(target_health=HEALTH)
CHECKED_TURNS = PortOptions(target_order=TargetOrder.ROUND_ROBIN, target_health=HEALTH)


class State(HealthChecks, Dialer):
    """What is known of targets, without any check or dial."""

    def __init__(self, down: set[Target] = frozenset(), failed: set[Target] = frozenset()) -> None:
        self.down = set(down)
        self.failed = set(failed)

    def is_up(self, target: Target, settings: TargetHealth, policies: tuple[TargetPolicy, ...] = ()) -> bool:
        return target not in self.down

    def failed_lately(self, target: Target) -> bool:
        return target in self.failed


def request(port: int = 80, transport: str = "tcp") -> ConnectRequest:
    return ConnectRequest("app", "id", "app.example.com", "app.example.com", port, "192.0.2.1:1", False, transport)


def names(number: int) -> str:
    return ",".join(f"t{place}:80" for place in range(number))


class BalancerTests(TestCase):
    def balancer(self, down: str = "", failed: str = "") -> Balancer:
        state = State(*(set(parse_targets(text)) if text else set() for text in (down, failed)))
        return Balancer(state, state)

    def order(self, balancer: Balancer, options: PortOptions, text: str = "t0:80,t1:80,t2:80", **where: str) -> str:
        dial = balancer.dial(request(), Route(text, options, where.get("pattern", "")))
        return ",".join(target.host for target in dial.targets)

    def test_how_it_is_dialled_comes_from_the_port(self) -> None:
        options = PortOptions(proxy_protocol=ProxyProtocol.V2, dial_timeout=3)
        for text in ("t0:80", "t0:80,t1:80"):
            dial = self.balancer().dial(request(), Route(text, options))
            self.assertEqual(dial, RoutedDial(parse_targets(text), 3, ProxyProtocol.V2))

    def test_a_text_that_names_no_targets(self) -> None:
        with self.assertRaises(InvalidValue):
            self.balancer().dial(request(), Route("nonsense", PortOptions()))

    def test_in_order(self) -> None:
        balancer = self.balancer()
        self.assertEqual({self.order(balancer, PortOptions()) for _ in range(5)}, {"t0,t1,t2"})

    def test_in_turn(self) -> None:
        balancer = self.balancer()
        orders = [self.order(balancer, TURNS) for _ in range(6)]
        self.assertEqual(set(orders), {"t0,t1,t2", "t1,t2,t0", "t2,t0,t1"})
        self.assertEqual(orders[:3], orders[3:])

    def test_turns_are_kept_for_each_route(self) -> None:
        balancer = self.balancer()
        firsts = [self.order(balancer, TURNS, "t0:80,t1:80", pattern=pattern)[:2] for pattern in "ab" * 6]
        for route in (firsts[0::2], firsts[1::2]):
            self.assertEqual(Counter(route), {"t0": 3, "t1": 3})

    def test_turns_go_on_when_targets_are_edited(self) -> None:
        balancer = self.balancer()
        turns = []
        for text in ("t0:80,t1:80", "t0:80,t1:80", "x:1,t1:80", "t0:80,t1:80"):
            self.order(balancer, TURNS, text)
            turns.append(*balancer._turns.values())
        self.assertEqual(turns, list(range(turns[0], turns[0] + 4)))

    def test_turns_that_are_remembered_are_bounded(self) -> None:
        balancer = self.balancer()
        balancer._turns = {("tcp", number, ""): 1 for number in range(REMEMBERED)}
        self.order(balancer, TURNS, pattern="new")
        self.assertLessEqual(len(balancer._turns), REMEMBERED)

    def test_what_is_down_is_left_out_but_never_all(self) -> None:
        self.assertEqual(self.order(self.balancer(down="t0:80"), CHECKED), "t1,t2")
        self.assertEqual(self.order(self.balancer(down="t0:80,t1:80"), CHECKED), "t2")
        self.assertEqual(self.order(self.balancer(down="t0:80,t1:80,t2:80"), CHECKED), "t0,t1,t2")
        self.assertEqual(self.order(self.balancer(down="t0:80"), CHECKED, "t0:80"), "t0")
        # Another route may have the same target checked: this one has not asked for it.
        self.assertEqual(self.order(self.balancer(down="t0:80"), PortOptions()), "t0,t1,t2")

    @given(st.integers(1, 6), st.data())
    def test_every_good_target_gets_the_same_share(self, number: int, data: st.DataObject) -> None:
        targets = parse_targets(names(number))
        down, failed = (data.draw(st.sets(st.sampled_from(targets))) for _ in "ab")
        state = State(down, failed)
        balancer = Balancer(state, state)
        usable = [target for target in targets if target not in down] or list(targets)
        good = [target for target in usable if target not in failed] or usable
        orders = [balancer.dial(request(), Route(names(number), CHECKED_TURNS)).targets for _ in range(3 * len(good))]
        for order in orders:
            self.assertCountEqual(order, usable)
            if good != usable:
                self.assertEqual(set(order[: len(good)]), set(good))
        if set(good) - failed:
            self.assertEqual(Counter(order[0] for order in orders), dict.fromkeys(good, 3))


class ChecksOfTests(TestCase):
    def test_all_targets_of_the_ports_that_have_checks(self) -> None:
        table = RouteTable.build(
            [
                PortRoutes("tcp", 80, "a:1,b:2", {"x.example.com": "b:2", "y.example.com": "nonsense"}, CHECKED),
                PortRoutes("tcp", 81, "c:3,d:4"),
                PortRoutes("tcp", 82, None, {"x.example.com": "e:5"}, CHECKED_TURNS),
            ]
        )
        policies = (TargetPolicy(),)
        for bounds in ((), policies):
            expected = {(parse_target(text), HEALTH, bounds) for text in ("a:1", "b:2", "e:5")}
            self.assertEqual(set(checks_of(table, bounds)), expected)


class DialerOrderTests(TestCase):
    def test_a_target_that_failed_a_dial_comes_last_in_both_orders(self) -> None:
        async def main() -> None:
            dialer = Dialer()
            balancer = Balancer(dialer, HealthChecks(dialer))
            bad = parse_target("t0:80")
            dialer._note_failed(bad)
            for options in (PortOptions(), TURNS):
                for _ in range(4):
                    dial = balancer.dial(request(), Route(names(3), options))
                    self.assertEqual(dialer.failed_last(dial.targets)[-1], bad)

        asyncio.run(main())
