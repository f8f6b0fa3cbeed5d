import base64
import json

import jwt as pyjwt
from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.tokens.jwt import MAX_TOKEN, TokenRefused, read
from tests.relay.tokens.samples import KEY, jwt_of, part, signed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=5,
)


class StrictTests(SimpleTestCase):
    def refusal(self, token: str) -> str:
        with self.assertRaises(TokenRefused) as caught:
            read(token)
        return str(caught.exception)

    def test_a_good_token(self) -> None:
        found = read(signed(hostnames=["a.example"]))
        self.assertEqual(found.payload, {"hostnames": ["a.example"]})
        self.assertEqual(found.header, {"alg": "HS256", "typ": "JWT"})
        self.assertTrue(found.is_signed_with(KEY.encode()))
        self.assertFalse(found.is_signed_with(b"another key"))

    def test_one_way_to_write_it(self) -> None:
        header, payload, signature = signed(hostname="a.example").split(".")
        padded = base64.urlsafe_b64encode(b'{"alg":"HS256"}  ').decode()
        self.assertIn("=", padded)
        for token in (
            f"{padded}.{payload}.{signature}",
            f"{header}.{payload}\n.{signature}",
            f"{header}.{payload}.{signature}=",
            f"{header}.{payload}.AB",
            f"{header}.{payload}.",
        ):
            with self.subTest(token):
                self.assertIn("could not base64 decode", self.refusal(token))

    def test_no_member_twice_and_no_constants(self) -> None:
        header = part(b'{"alg":"HS256"}')
        for payload in (b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":NaN}', b'{"a":-Infinity}', b"[]", b"\xff{}"):
            with self.subTest(payload):
                self.assertIn("could not JSON decode claims", self.refusal(f"{header}.{part(payload)}.AAAA"))
                self.assertIn("could not JSON decode header", self.refusal(f"{part(payload)}.e30.AAAA"))

    def test_one_algorithm_and_no_extensions(self) -> None:
        for algorithm in ("none", "HS512", "RS256", "hs256", None, ["HS256"]):
            self.assertIn("signing method is invalid", self.refusal(jwt_of({}, {"alg": algorithm})))
        for extension in ({"crit": ["b64"]}, {"b64": False}):
            self.assertIn("demands extensions", self.refusal(jwt_of({}, {"alg": "HS256", **extension})))

    def test_size(self) -> None:
        self.assertIn("more than 32768 characters", self.refusal("a.b." + "c" * MAX_TOKEN))

    def test_nothing_secret_in_a_repr(self) -> None:
        self.assertNotIn("a.example", repr(read(signed(hostname="a.example"))))


class LenientTests(SimpleTestCase):
    def test_what_only_a_lenient_reader_takes(self) -> None:
        header, payload, signature = signed(hostname="a.example").split(".")
        twice = part(b'{"hostname": "b", "hostname": "a.example"}')
        for token in (
            f"{header}.{payload}.{signature}=",
            f"{header}.{payload}.AB",
            f"{header}.{payload}.",
            f"{header}.{twice}.{signature}",
            jwt_of({"hostname": "a.example"}, {"alg": "RS256"}),
            jwt_of({"hostname": "a.example"}, {"alg": "none"}),
        ):
            with self.subTest(token):
                with self.assertRaises(TokenRefused):
                    read(token)
                self.assertEqual(read(token, lenient=True).payload, {"hostname": "a.example"})

    @given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit", "x"]), JSON, max_size=3), JSON, JSON)
    def test_it_takes_what_a_common_library_takes(self, header: object, payload: object, other: object) -> None:
        for head, body in ((header, payload), (other, payload), (header, {"claim": other})):
            token = jwt_of(body, head)
            try:
                expected = pyjwt.decode(token, options={"verify_signature": False})
            except pyjwt.PyJWTError:
                with self.assertRaises(TokenRefused):
                    read(token, lenient=True)
            else:
                found = read(token, lenient=True)
                self.assertEqual(json.dumps(found.payload), json.dumps(expected))
