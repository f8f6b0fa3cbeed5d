import time
from typing import Any
from unittest import TestCase

import jwt

from relay.config import Claims, UdpRoute
from relay.devnode.tokens import check_token, mint_token
from relay.tokens.jwt import TokenRefused
from tests.relay.devnode.client import HOST, SECRET


def refusal(token: str, *, attested: bool = True) -> str:
    try:
        check_token(token, SECRET, attested=attested)
    except TokenRefused as error:
        return str(error)
    raise AssertionError("the token was taken")


class AcceptedTests(TestCase):
    def test_everything_that_claims_can_say(self) -> None:
        checked = check_token(
            mint_token(
                SECRET,
                ["b.test", "a.test"],
                weight=2,
                tcp_ports=[17081],
                udp_routes=[{"port": 17053, "flow_idle_timeout_seconds": 30}, {"port": 53}],
                outbound_allowed=True,
                allowed_outbound_ports=[9000],
                session_nonce="n",
                reauth_interval_seconds=15,
                reauth_grace_seconds=5,
            ),
            SECRET,
            attested=True,
        )
        self.assertEqual(
            checked.claims,
            Claims(
                hostnames=("a.test", "b.test"),
                weight=2,
                tcp_ports=(17081,),
                udp_routes=(UdpRoute(53), UdpRoute(17053, 30)),
                outbound_allowed=True,
                allowed_outbound_ports=(9000,),
            ),
        )
        self.assertEqual((checked.session_nonce, checked.reauth_interval, checked.reauth_grace), ("n", 15, 5))

    def test_the_audience_may_be_one_string(self) -> None:
        check_token(mint_token(SECRET, [HOST], aud="nexus"), SECRET, attested=True)

    def test_token_dialect_takes_hostname_and_needs_no_issuer(self) -> None:
        token = mint_token(SECRET, hostname=HOST, iss=None, aud=None)
        self.assertEqual(check_token(token, SECRET, attested=False).claims.hostnames, (HOST,))

    def test_a_missing_weight_is_one_and_says_nothing(self) -> None:
        checked = check_token(mint_token(SECRET, [HOST]), SECRET, attested=True)
        self.assertEqual((checked.claims.weight, checked.weight_given), (1, False))

    def test_a_weight_of_less_than_one_is_one_and_says_nothing(self) -> None:
        for weight in (0, -1):
            checked = check_token(mint_token(SECRET, [HOST], weight=weight), SECRET, attested=True)
            self.assertEqual((checked.claims.weight, checked.weight_given), (1, False))

    def test_empty_names_are_dropped(self) -> None:
        checked = check_token(mint_token(SECRET, ["", HOST, " "]), SECRET, attested=True)
        self.assertEqual(checked.claims.hostnames, (HOST,))

    def test_every_hmac(self) -> None:
        payload = jwt.decode(mint_token(SECRET, [HOST]), options={"verify_signature": False})
        for algorithm in ("HS256", "HS384", "HS512"):
            with self.subTest(algorithm):
                secret = SECRET * 2
                token = jwt.encode(payload, secret, algorithm)
                self.assertEqual(check_token(token, secret, attested=True).claims.hostnames, (HOST,))
                self.assertIn("signature is invalid", refusal(token))


class RefusedTests(TestCase):
    def test_a_status_address_without_tls(self) -> None:
        for address in ("http://a.example", "a.example"):
            words = refusal(mint_token(SECRET, [HOST], authorizer_status_uri=address))
            self.assertEqual(words, "invalid claims: authorizer_status_uri must use https scheme")
        check_token(mint_token(SECRET, [HOST], authorizer_status_uri="https://a.example"), SECRET, attested=True)
        check_token(mint_token(SECRET, [HOST], authorizer_status_uri=""), SECRET, attested=True)

    def test_words(self) -> None:
        now = int(time.time())
        unsigned = jwt.encode({"hostnames": [HOST]}, "", algorithm="none")
        cases: list[tuple[str, str]] = [
            ("nothing", "token is malformed: token contains an invalid number of segments"),
            ("abc.def.ghi", "token is malformed: could not JSON decode header: invalid character 'i'"),
            ("!.def.ghi", "token is malformed: could not base64 decode header"),
            (mint_token(SECRET, [HOST], lifetime=-1), "token has invalid claims: token is expired"),
            (mint_token(SECRET, [HOST], nbf=now + 60), "token has invalid claims: token is not valid yet"),
            (mint_token(SECRET + "x", [HOST]), "token signature is invalid: signature is invalid"),
            (unsigned, "token signature is invalid: signing method is invalid"),
            (mint_token(SECRET, [HOST], iss=None), "token is missing required claim: iss claim is required"),
            (mint_token(SECRET, [HOST], aud=None), "token is missing required claim: aud claim is required"),
            (mint_token(SECRET, [HOST], iss="other"), "token has invalid issuer"),
            (mint_token(SECRET, [HOST], aud=["other"]), "token has invalid audience"),
        ]
        for token, words in cases:
            with self.subTest(words):
                self.assertIn(words, refusal(token))

    def test_claims(self) -> None:
        cases: list[dict[str, Any]] = [
            {},
            {"hostnames": [1]},
            {"hostnames": [HOST], "weight": "2"},
            {"hostnames": [HOST], "weight": 1.5},
            {"tcp_ports": ["53"]},
            {"tcp_ports": [True]},
            {"udp_routes": [53]},
            {"udp_routes": [{"flow_idle_timeout_seconds": 1}]},
            {"hostnames": [HOST], "outbound_allowed": "yes"},
            {"hostnames": [HOST], "allowed_outbound_ports": [25]},
            {"hostnames": [HOST], "reauth_interval_seconds": "15"},
            {"hostnames": [HOST, "tcp:53"]},
            {"hostnames": ["udp:53"]},
            {"hostnames": ["", " ", "."]},
        ]
        for claims in cases:
            with self.subTest(claims=claims):
                self.assertIn("invalid claims: ", refusal(mint_token(SECRET, **claims)))

    def test_single_hostname_is_of_the_token_dialect_only(self) -> None:
        self.assertIn("neither hostnames", refusal(mint_token(SECRET, hostname=HOST)))
