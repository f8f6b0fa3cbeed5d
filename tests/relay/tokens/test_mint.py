import jwt
from django.test import SimpleTestCase

from relay.config import AttestationOptions, Claims
from relay.protocol.events import Stage
from relay.tokens.claims import parse_claims
from relay.tokens.mint import mint
from tests.relay.tokens.samples import CLAIMS, KEY, payload_of, recorded_tokens


class MintTests(SimpleTestCase):
    def test_as_recorded(self) -> None:
        options = AttestationOptions(reauth_interval=15, reauth_grace=5)
        for stage, recorded in zip(Stage, recorded_tokens("attested"), strict=True):
            expected = jwt.decode(recorded, options={"verify_signature": False})
            nonce = expected.get("session_nonce", "")
            found = payload_of(mint("lab", CLAIMS, options, KEY, stage=stage, nonce=nonce))
            self.assertEqual(found["exp"] - found["iat"], expected["exp"] - expected["iat"])  # type: ignore[operator]
            for payload in (found, expected):
                del payload["iat"], payload["exp"]
            self.assertEqual(found, expected)
            self.assertEqual(jwt.get_unverified_header(recorded), {"alg": "HS256", "typ": "JWT"})

    def test_every_option(self) -> None:
        options = AttestationOptions(
            token_ttl=90,
            handshake_max_age=7,
            reauth_interval=900,
            reauth_grace=15,
            maintenance_grace_cap=60,
            authorizer_status_uri="https://status.example",
            policy_version="v3",
        )
        handshake = payload_of(mint("b", Claims(("a",)), options, KEY, stage=Stage.HANDSHAKE))
        attest = payload_of(mint("b", Claims(("a",)), options, KEY, stage=Stage.ATTEST, nonce="n"))
        self.assertEqual(handshake.pop("handshake_max_age_seconds"), 7)
        self.assertEqual(attest.pop("session_nonce"), "n")
        for payload in (handshake, attest):
            self.assertEqual(payload.pop("exp") - payload.pop("iat"), 90)  # type: ignore[operator]
            self.assertEqual(
                payload,
                {
                    "hostnames": ["a"],
                    "weight": 1,
                    "reauth_interval_seconds": 900,
                    "reauth_grace_seconds": 15,
                    "maintenance_grace_cap_seconds": 60,
                    "authorizer_status_uri": "https://status.example",
                    "policy_version": "v3",
                    "iss": "authorizer",
                    "sub": "b",
                    "aud": ["nexus"],
                },
            )

    def test_a_status_address_that_nodes_refuse_is_left_out(self) -> None:
        options = AttestationOptions(authorizer_status_uri="http://status.example")
        self.assertNotIn("authorizer_status_uri", payload_of(mint("b", CLAIMS, options, KEY, stage=Stage.HANDSHAKE)))

    def test_it_reads_back(self) -> None:
        self.assertEqual(
            parse_claims(mint("b", CLAIMS, AttestationOptions(), KEY, stage=Stage.HANDSHAKE)).claims, CLAIMS
        )
