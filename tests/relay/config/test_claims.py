import json

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Claims, UdpRoute
from relay.config.claim_rules import LENIENT, STRICT, ClaimError

ports = st.integers(1, 65_535)
claims = st.builds(
    Claims,
    hostnames=st.lists(st.sampled_from(["a.example", "*.b.example", "c.d.example"]), max_size=3).map(tuple),
    weight=st.integers(1, 9),
    tcp_ports=st.lists(ports, max_size=3).map(tuple),
    udp_routes=st.lists(st.builds(UdpRoute, ports, st.none() | st.integers(1, 90)), max_size=3).map(tuple),
    outbound_allowed=st.booleans(),
    allowed_outbound_ports=st.lists(ports, max_size=3).map(tuple),
)


class JsonTests(SimpleTestCase):
    def test_the_names_of_the_claims(self) -> None:
        found = Claims(("a.example",), 2, (53,), (UdpRoute(67), UdpRoute(69, 30)), True, (25,)).to_json()
        self.assertEqual(
            found,
            {
                "hostnames": ["a.example"],
                "weight": 2,
                "tcp_ports": [53],
                "udp_routes": [{"port": 67}, {"port": 69, "flow_idle_timeout_seconds": 30}],
                "outbound_allowed": True,
                "allowed_outbound_ports": [25],
            },
        )

    def test_what_is_empty_is_left_out(self) -> None:
        self.assertEqual(Claims().to_json(), {"hostnames": [], "weight": 1})

    @given(claims)
    def test_they_read_back(self, given_claims: Claims) -> None:
        for rules in (STRICT, LENIENT):
            self.assertEqual(Claims.from_json(json.loads(json.dumps(given_claims.to_json())), rules), given_claims)

    def test_one_hostname(self) -> None:
        both = {"hostnames": ["a.example"], "hostname": "b.example"}
        self.assertEqual(Claims.from_json(both).hostnames, ("a.example", "b.example"))
        self.assertEqual(Claims.from_json(both, LENIENT).hostnames, ("a.example",))

    def test_what_only_lenient_rules_take(self) -> None:
        cases: tuple[tuple[dict[str, object], Claims], ...] = (
            ({"weight": 0}, Claims()),
            ({"weight": None}, Claims()),
            ({"weight": -3}, Claims(weight=-3)),
            ({"outbound_allowed": "yes"}, Claims()),
            ({"tcp_ports": [0, 70_000]}, Claims(tcp_ports=(0, 70_000))),
            ({"udp_routes": [{}]}, Claims(udp_routes=(UdpRoute(0),))),
            ({"hostnames": ["a\nb"]}, Claims(("a\nb",))),
        )
        for fields, expected in cases:
            with self.subTest(fields):
                self.assertEqual(Claims.from_json(fields, LENIENT), expected)
                with self.assertRaises(ClaimError) as caught:
                    Claims.from_json(fields)
                self.assertEqual(caught.exception.claim, next(iter(fields)))
