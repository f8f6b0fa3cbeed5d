import math

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Claims
from relay.config.claim_rules import ClaimError
from relay.errors import InvalidValue
from relay.tokens.claims import TokenClaims, check_registered, parse_claims, registered_problems
from relay.tokens.jwt import MAX_TOKEN, TokenRefused
from tests.relay.tokens.samples import CLAIMS, jwt_of, part, recorded_tokens, signed


class ParseClaimsTests(SimpleTestCase):
    def test_recorded_tokens(self) -> None:
        handshake, attested, reauth = recorded_tokens("attested")
        self.assertEqual(parse_claims(handshake).claims, CLAIMS)
        self.assertEqual(parse_claims(attested).claims, CLAIMS)
        self.assertEqual(parse_claims(reauth).claims, CLAIMS)
        found = parse_claims(recorded_tokens("token")[0])
        self.assertEqual(found.claims, Claims(CLAIMS.hostnames, weight=2))
        self.assertEqual((found.issued_at, found.expires_at), (1760000000, 4102444800))

    def test_one_hostname_and_what_is_absent(self) -> None:
        self.assertEqual(parse_claims(signed(hostname="a.example")).claims, Claims(("a.example",)))
        self.assertEqual(parse_claims(signed(hostnames=[], hostname="a.example")).claims, Claims(("a.example",)))
        self.assertEqual(parse_claims(signed()), TokenClaims(Claims()))
        self.assertEqual(parse_claims(signed(hostnames=None, weight=None, udp_routes=None)).claims, Claims())

    def test_white_space_around_is_taken_off(self) -> None:
        self.assertEqual(parse_claims(f"\n {signed(hostname='a.example')} \n").claims, Claims(("a.example",)))

    def test_expiry_of_any_number(self) -> None:
        for value, expected in (
            (12.5, 12.5),
            (10**400, math.inf),
            (-(10**400), -math.inf),
            (float("nan"), None),
            ("2030", None),
            (True, None),
            ([], None),
        ):
            self.assertEqual(parse_claims(jwt_of({"exp": value})).expires_at, expected, value)

    def test_wrong_types_are_refused_without_showing_the_token(self) -> None:
        for payload in (
            {"hostnames": "app.example.com"},
            {"hostnames": ["a", 1]},
            {"hostnames": {"a": 1}},
            {"hostnames": ["\ud800"]},
            {"hostnames": ["a\0b"]},
            {"hostname": 5},
            {"weight": "2"},
            {"weight": 1.5},
            {"weight": True},
            {"tcp_ports": [53, "80"]},
            {"tcp_ports": 53},
            {"tcp_ports": [True]},
            {"udp_routes": [53]},
            {"udp_routes": {"port": 53}},
            {"udp_routes": [{"port": "53"}]},
            {"udp_routes": [{"port": 53, "flow_idle_timeout_seconds": "30"}]},
            {"allowed_outbound_ports": "25"},
        ):
            token = jwt_of(payload)
            with self.subTest(payload), self.assertRaises(InvalidValue) as caught:
                parse_claims(token)
            self.assertNotIn(token, str(caught.exception))
            self.assertNotIn(token[:20], repr(caught.exception))

    def test_what_is_not_a_jwt(self) -> None:
        good = signed(hostname="a.example")
        head, body, _ = good.split(".")
        for token in (
            "",
            "abc",
            "abc.def.ghi",
            f"{head}.{body}",
            f"{head}.!!!.x",
            f"{head}..x",
            good + ".more",
            good + "é",
            "\ud800." + good,
            "\0",
            jwt_of([1, 2]),
            jwt_of("text"),
            jwt_of(None),
            jwt_of({}, head={"alg": "HS256", "b64": False}),
            jwt_of({}, head=[1]),
            part(b"[" * 20_000) + ".e30.x",
            head + "." + part(b'{"a":' * 4000) + ".x",
            good + "x" * MAX_TOKEN,
        ):
            with self.subTest(token[:40]), self.assertRaises(InvalidValue):
                parse_claims(token)

    @given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: f"{part(b'{}')}.{part(raw)}.x"))
    def test_hostile_tokens_raise_nothing_else(self, token: str) -> None:
        try:
            parse_claims(token)
        except InvalidValue:
            pass


class RegisteredTests(SimpleTestCase):
    NOW = 1_000_000.0

    def problems(self, leeway: float = 0.0, **payload: object) -> list[str]:
        return list(registered_problems({"aud": "nexus", "iss": "authorizer"} | payload, self.NOW, leeway=leeway))

    def test_times(self) -> None:
        self.assertEqual(self.problems(), [])
        self.assertEqual(self.problems(exp=self.NOW + 1, nbf=self.NOW), [])
        self.assertEqual(self.problems(exp=self.NOW), ["token is expired"])
        self.assertEqual(self.problems(6, exp=self.NOW - 5, nbf=self.NOW + 5), [])
        self.assertEqual(self.problems(5, exp=self.NOW - 5), ["token is expired"])
        self.assertEqual(self.problems(nbf=self.NOW + 1), ["token is not valid yet"])
        for value in ("1", True, math.nan, math.inf, 10**400, []):
            self.assertEqual(self.problems(exp=value), ["exp is not an instant"])

    def test_parties(self) -> None:
        self.assertEqual(self.problems(aud=["other", "nexus"]), [])
        self.assertEqual(self.problems(aud="nexus2"), ["token has invalid audience"])
        self.assertEqual(self.problems(aud={"nexus": 1}), ["token has invalid audience"])
        self.assertEqual(self.problems(iss=["authorizer"]), ["token has invalid issuer"])

    def test_a_checked_token_needs_an_expiry_and_was_issued_before_now(self) -> None:
        good = {"aud": "nexus", "iss": "authorizer", "exp": self.NOW + 1}
        check_registered(good | {"iat": self.NOW + 5}, self.NOW, 5)
        for payload, words in (
            (good | {"iat": self.NOW + 6}, "token used before issued"),
            (good | {"exp": None}, "exp claim is required"),
        ):
            with self.assertRaisesRegex(TokenRefused, words):
                check_registered(payload, self.NOW, 5)


class TokenClaimsTests(SimpleTestCase):
    def test_all_of_it_reads_back(self) -> None:
        told = TokenClaims(
            CLAIMS, True, 90.0, 60.0, 50.0, "edge", "id", "nonce", 5, 900, 0, 60, "https://status.example", "v3"
        )
        payload = told.to_json()
        self.assertEqual(
            (payload["iss"], payload["aud"], payload["reauth_grace_seconds"]), ("authorizer", ["nexus"], 0)
        )
        self.assertEqual(TokenClaims.from_json(payload), told)

    def test_what_it_does_not_say_is_left_out(self) -> None:
        told = TokenClaims(Claims(), weight_given=False)
        self.assertEqual(told.to_json(), {"hostnames": [], "iss": "authorizer", "aud": ["nexus"]})
        self.assertEqual(TokenClaims.from_json(told.to_json()), told)

    def test_types_and_bounds(self) -> None:
        cases: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("reauth_interval_seconds", (1.5, -1, "9", None, 10**12)),
            ("session_nonce", (7, "n" * 257, "\ud800", None)),
            ("jti", (7, "\0", "x" * 501)),
            ("exp", ("9", True, math.nan)),
        )
        for name, values in cases:
            for value in values:
                with self.subTest(name, value=value), self.assertRaises(ClaimError) as caught:
                    TokenClaims.from_json({name: value})
                self.assertEqual(caught.exception.claim, name)
