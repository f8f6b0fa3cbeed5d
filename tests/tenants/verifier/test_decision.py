"""What is good and what is refused, and attempts to get more than that."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any
from unittest import mock

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import connection
from django.test import TestCase
from django.utils import timezone

from tenants.models import Backend, BackendHostname, Credential, Hostname, PortClaim, Revocation, Tenant, TenantKey
from tenants.services.tokens import issue
from tenants.services.tokens.tenant_keys import revoke, rotate
from tenants.verifier.cache import Reader, Store
from tenants.verifier.decision import MOST_SECRETS, Decision, decide, take_apart
from tests.support.effort import effort
from tests.support.registry import make_served_backend, make_tenant

SIGNATURE = "jwt validation failed: token signature is invalid: signature is invalid"


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, payload: Any, secret: str) -> str:
    """Sign whatever is given, be it no token at all."""
    body = f"{encoded(header)}.{encoded(payload)}"
    return f"{body}.{encoded(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


class DecisionTestCase(TestCase):
    """Two tenants with a backend and a key each."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.acme, cls.other = make_tenant(slug="acme"), make_tenant(slug="other")
        cls.backend = make_served_backend(cls.acme, "app.example.com", name="edge")
        cls.backend.hostnames.add(Hostname.objects.create(tenant=cls.acme, name="*.preview.example.com"))
        PortClaim.objects.create(backend=cls.backend, transport="tcp", public_port=853)
        PortClaim.objects.create(backend=cls.backend, transport="udp", public_port=53)
        cls.foreign = make_served_backend(cls.other, "app.example.net", name="secret-name")
        PortClaim.objects.create(backend=cls.foreign, transport="tcp", public_port=853)
        cls.key, cls.foreign_key = rotate(cls.acme), rotate(cls.other)

    def setUp(self) -> None:
        self.store = Store()

    def decide(self, token: str, now: float | None = None) -> Decision:
        taken = take_apart(token)
        if isinstance(taken, Decision):
            return taken
        self.store.refresh()
        return decide(taken, Reader(self.store, reads=True), now or time.time(), "https://admin.example.com/status")

    def token(self, key: Any = None, *, secret: str = "", header: Any = None, **claims: Any) -> str:
        key = key or self.key
        now = int(time.time())
        body = {"iss": "authorizer", "aud": ["nexus"], "iat": now, "exp": now + 30, "hostnames": ["app.example.com"]}
        body = {name: value for name, value in (body | claims).items() if value is not None}
        head = {"alg": "HS256", "typ": "JWT", "kid": key.kid} if header is None else header
        return signed(head, body, secret or key.secret)

    def assertGood(self, token: str) -> dict[str, Any]:
        decision = self.decide(token)
        self.assertEqual(decision.reason, "")
        self.assertTrue(decision.valid)
        return decision.claims or {}

    def assertRefused(self, token: str, reason: str) -> Decision:
        decision = self.decide(token)
        self.assertFalse(decision.valid)
        self.assertIn(reason, decision.reason)
        self.assertNotIn("secret-name", decision.reason)
        return decision


class GoodTest(DecisionTestCase):
    def test_all_that_the_backend_may_claim(self) -> None:
        token = issue.issue(self.backend, ttl=60).token
        claims = self.assertGood(token)
        self.assertEqual(claims["hostnames"], ["*.preview.example.com", "app.example.com"])
        self.assertEqual((claims["tcp_ports"], claims["udp_routes"]), ([853], [{"port": 53}]))
        self.assertEqual((claims["iss"], claims["aud"], claims["sub"]), ("authorizer", ["nexus"], "acme/edge"))
        decision = self.decide(token)
        self.assertEqual(decision.tenant, (self.acme.pk, "acme"))
        self.assertEqual(decision.backend, (self.backend.pk, "edge"))

    def test_part_of_it_and_what_is_passed_through(self) -> None:
        extras = {
            "session_nonce": "n" * 43,
            "handshake_max_age_seconds": 5,
            "reauth_interval_seconds": 900,
            "reauth_grace_seconds": 0,
            "policy_version": "7",
            "jti": "x",
            "weight": 9,
        }
        claims = self.assertGood(self.token(**extras))
        self.assertEqual({name: claims[name] for name in extras}, extras)
        self.assertEqual(self.assertGood(self.token(hostnames=None, tcp_ports=[853]))["tcp_ports"], [853])
        self.assertEqual(self.assertGood(self.token(hostnames=None, udp_routes=[{"port": 53}]))["hostnames"], [])

    def test_hostnames_in_odd_forms_are_their_normal_form(self) -> None:
        for name in (" APP.Example.COM. ", "app。example.com", "ａｐｐ.example.com", "xn--app-.example.com"):
            self.assertEqual(self.assertGood(self.token(hostnames=[name]))["hostnames"], ["app.example.com"])
        claims = self.assertGood(self.token(hostnames=None, hostname="*.PREVIEW.example.com"))
        self.assertEqual(claims["hostnames"], ["*.preview.example.com"])

    def test_a_token_without_a_keys_id(self) -> None:
        header = {"alg": "HS256"}
        self.assertGood(self.token(header=header))
        Credential.objects.filter(backend=self.backend).delete()
        Credential.objects.create(backend=self.backend, kind="hmac_secret", secret="own-secret-of-this-backend-alone")
        self.assertGood(self.token(header=header, secret="own-secret-of-this-backend-alone"))
        ports = {"hostnames": None, "tcp_ports": [853]}
        for subject in ("edge", "acme/edge"):
            self.assertGood(self.token(header=header, secret="own-secret-of-this-backend-alone", sub=subject, **ports))
        for subject in ("other", None, "x" * 5000, 7):
            token = self.token(header=header, secret="own-secret-of-this-backend-alone", sub=subject, **ports)
            self.assertRefused(token, SIGNATURE)

    def test_the_retiring_key_is_good_until_its_time(self) -> None:
        token = self.token(exp=int(time.time()) + 7200)
        new = rotate(self.acme, overlap=timedelta(hours=1))
        self.assertGood(token)
        self.assertGood(self.token(new))
        self.assertIn("has retired", self.decide(token, time.time() + 3601).reason)

    def test_a_retired_key_vouches_for_no_token_without_a_keys_id_either(self) -> None:
        token = self.token(header={"alg": "HS256"}, exp=int(time.time()) + 7200)
        rotate(self.acme, overlap=timedelta(hours=1))
        self.assertGood(token)
        self.assertEqual(self.decide(token, time.time() + 3601).reason, SIGNATURE)

    def test_a_replaced_secret_is_good_until_its_time_whether_or_not_the_row_is_tidied(self) -> None:
        old, new = "own-secret-of-this-backend-alone", "the-secret-that-comes-behind-that"
        Credential.objects.filter(backend=self.backend).delete()
        at = timezone.now() + timedelta(minutes=5)
        Credential.objects.create(backend=self.backend, kind="hmac_secret", secret=old, next_secret=new, next_at=at)
        tokens = [
            self.token(header={"alg": "HS256"}, secret=secret, exp=int(time.time()) + 900) for secret in (old, new)
        ]
        for seconds, good in ((-1, [True, True]), (59, [True, True]), (61, [False, True])):
            now = at.timestamp() + seconds
            self.assertEqual([self.decide(token, now).valid for token in tokens], good)
        self.assertNotIn(new, repr(self.store.backends))

    def test_the_subject_is_whose_it_was_found_to_be(self) -> None:
        for subject in ("acme/edge", "other/secret-name", "<b>", ""):
            self.assertEqual(self.assertGood(self.token(sub=subject))["sub"], "acme/edge")
        self.assertNotIn("sub", self.assertGood(self.token()))
        self.assertRefused(self.token(sub=["acme/edge"]), "sub must be a string")

    def test_the_status_address_is_ours(self) -> None:
        claims = self.assertGood(
            self.token(authorizer_status_uri="https://down.example.org/", maintenance_grace_cap_seconds=10**7)
        )
        self.assertEqual(claims["authorizer_status_uri"], "https://admin.example.com/status")
        self.assertEqual(claims["maintenance_grace_cap_seconds"], 86_400)
        self.assertNotIn("authorizer_status_uri", self.assertGood(self.token()))


class RefusedTest(DecisionTestCase):
    def test_claims_beyond_the_backend(self) -> None:
        for claims, said in (
            ({"hostnames": ["app.example.com", "b.example.com"]}, "hostname b.example.com is not one of the backend's"),
            ({"hostnames": ["*.example.com"]}, "hostname *.example.com is claimed by no backend of tenant acme"),
            ({"hostnames": ["a.preview.example.com"]}, "hostname a.preview.example.com is claimed by no backend"),
            ({"hostnames": ["app.example.com", "a.preview.example.com"]}, "hostname a.preview.example.com is"),
            ({"hostnames": ["app.example.com", *(f"h{n}.example.com" for n in range(1000))]}, "and 997 more"),
            ({"tcp_ports": [853, 22]}, "beyond backend acme/edge: TCP port 22 is not claimed"),
            ({"udp_routes": [{"port": 67}]}, "UDP port 67 is not claimed"),
            ({"outbound_allowed": True}, "outbound is not allowed"),
            ({"allowed_outbound_ports": [25]}, "outbound ports are claimed without outbound"),
            ({"hostnames": [f"h{n}.example.com" for n in range(1000)]}, "hostname h0.example.com is claimed by no"),
        ):
            with self.subTest(claims if len(str(claims)) < 200 else ""):
                self.assertRefused(self.token(**claims), said)

    def test_only_those_that_are_not_named_are_counted(self) -> None:
        for number, more in ((3, ""), (4, " and 1 more")):
            names = ["app.example.com", *(f"h{each}.example.com" for each in range(number))]
            reason = self.assertRefused(self.token(hostnames=names), "is not one of the backend's").reason
            self.assertEqual(" and " in reason, bool(more), reason)
            self.assertTrue(reason.endswith(more))

    def test_outbound_ports(self) -> None:
        Backend.objects.filter(pk=self.backend.pk).update(outbound_allowed=True, allowed_outbound_ports=[25, 465])
        self.assertGood(self.token(outbound_allowed=True, allowed_outbound_ports=[25]))
        self.assertRefused(self.token(outbound_allowed=True, allowed_outbound_ports=[25, 22]), "outbound port 22")
        self.assertRefused(self.token(outbound_allowed=True), "outbound to every port is not allowed")

    def test_claims_of_two_backends_together(self) -> None:
        make_served_backend(self.acme, "two.example.com", name="two")
        self.assertGood(self.token(hostnames=["two.example.com"]))
        self.assertRefused(self.token(hostnames=["app.example.com", "two.example.com"]), "is not one of the backend's")

    def test_times_and_parties(self) -> None:
        now = int(time.time())
        for claims, said in (
            ({"exp": now - 6}, "token is expired"),
            ({"exp": None}, "exp claim is required"),
            ({"exp": float(10**300)}, "exp is not an instant"),
            ({"exp": True}, "exp is not an instant"),
            ({"exp": str(now + 60)}, "exp is not an instant"),
            ({"nbf": now + 60}, "not valid yet"),
            ({"iat": now + 60}, "used before issued"),
            ({"iss": "somebody"}, "invalid issuer"),
            ({"iss": None}, "iss claim is required"),
            ({"iss": ["authorizer"]}, "invalid issuer"),
            ({"aud": None}, "aud claim is required"),
            ({"aud": ["admin"]}, "invalid audience"),
            ({"aud": {"nexus": 1}}, "invalid audience"),
        ):
            with self.subTest(claims):
                self.assertRefused(self.token(**claims), said)
        self.assertGood(self.token(exp=now - 2, nbf=now + 2, aud="nexus"))

    def test_what_is_switched_off(self) -> None:
        Backend.objects.filter(pk=self.backend.pk).update(enabled=False)
        self.assertRefused(self.token(), "backend acme/edge is disabled")
        Backend.objects.filter(pk=self.backend.pk).update(enabled=True)
        self.assertGood(self.token())
        Tenant.objects.filter(pk=self.acme.pk).update(enabled=False)
        self.assertRefused(self.token(), "tenant acme is disabled")

    def test_revocation_counts_at_once(self) -> None:
        first, second, third = self.token(jti="a"), self.token(jti="b"), self.token()
        for token in (first, second, third):
            self.assertGood(token)
        Revocation.objects.create(tenant=self.other, token_id="a")
        self.assertGood(first)
        Revocation.objects.create(tenant=self.acme, token_id="a")
        self.assertRefused(first, "the token is revoked")
        Revocation.objects.create(tenant=self.acme, token_hash=hashlib.sha256(third.encode()).hexdigest())
        self.assertRefused(third, "the token is revoked")
        self.assertGood(second)
        revoke(self.key, "it leaked")
        self.assertRefused(second, f"key {self.key.kid} is revoked")

    def test_edits_count_at_once(self) -> None:
        self.assertGood(self.token())
        self.backend.hostnames.through.objects.filter(hostname__name="app.example.com").delete()
        self.assertRefused(self.token(), "claimed by no backend")
        self.backend.hostnames.add(Hostname.objects.get(name="app.example.com"))
        self.assertGood(self.token())
        ports = {"hostnames": None, "tcp_ports": [22]}
        self.assertRefused(self.token(**ports), "TCP port 22 is claimed by no backend")
        PortClaim.objects.create(backend=self.backend, transport="tcp", public_port=22)
        self.assertGood(self.token(**ports))
        Hostname.objects.get(name="app.example.com").delete()
        self.backend.delete()
        self.assertRefused(self.token(**ports), "claimed by no backend")

    def test_a_key_that_can_not_be_decrypted(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_tenantkey SET secret = 'broken'")
        with self.assertLogs("tenants.verifier", "ERROR") as logs:
            self.assertRefused(self.token(), "cannot read the key")
        self.assertNotIn("broken", "".join(logs.output))


class AttackTest(DecisionTestCase):
    """A hostile tenant's attempts, and those of somebody without any key."""

    def test_another_tenants_key_vouches_for_nothing_here(self) -> None:
        here = "hostname app.example.com is claimed by no backend of tenant other"
        self.assertRefused(self.token(self.foreign_key), here)
        self.assertRefused(self.token(self.foreign_key, hostnames=["app.example.net", "app.example.com"]), here)
        # The same words where nobody at all has the name.
        nowhere = self.decide(self.token(self.foreign_key, hostnames=["nowhere.example.com"])).reason
        self.assertEqual(nowhere, here.replace("app.", "nowhere."))

    def test_another_tenants_secret_under_our_keys_id(self) -> None:
        header = {"alg": "HS256", "kid": self.key.kid}
        self.assertRefused(self.token(header=header, secret=self.foreign_key.secret), SIGNATURE)
        self.assertRefused(self.token(header={"alg": "HS256"}, secret=self.foreign_key.secret), SIGNATURE)

    def test_an_unknown_key_and_a_wrong_one_are_told_alike(self) -> None:
        unknown = self.decide(self.token(header={"alg": "HS256", "kid": "unknown"}, secret="x"))
        wrong = self.decide(self.token(header={"alg": "HS256", "kid": self.key.kid}, secret="x"))
        self.assertEqual(unknown.reason, wrong.reason)
        self.assertEqual(unknown.reason, SIGNATURE)
        owned = self.decide(self.token(header={"alg": "HS256"}, secret="x"))
        nobodys = self.decide(self.token(header={"alg": "HS256"}, secret="x", hostnames=["nobody.example.org"]))
        self.assertEqual((owned.reason, nobodys.reason), (SIGNATURE, SIGNATURE))

    def test_a_forged_token_is_nobodys(self) -> None:
        for header in ({"alg": "HS256", "kid": self.key.kid}, {"alg": "HS256"}):
            decision = self.assertRefused(self.token(header=header, secret=self.foreign_key.secret), SIGNATURE)
            self.assertEqual((decision.tenant, decision.backend), (None, None))
        # What the key did sign is the tenant's, also where it is refused.
        self.assertEqual(self.decide(self.token(exp=1)).tenant, (self.acme.pk, "acme"))
        revoke(self.key)
        self.assertEqual(self.assertRefused(self.token(), "is revoked").tenant, (self.acme.pk, "acme"))
        forged = self.token(secret=self.foreign_key.secret)
        self.assertIsNone(self.assertRefused(forged, SIGNATURE).tenant)

    def test_one_secret_in_two_tenants(self) -> None:
        shared = "shared-secret-shared-secret-shared"
        mine, theirs = rotate(self.acme, secret=shared), rotate(self.other, secret=shared)
        self.assertGood(self.token(mine))
        self.assertRefused(self.token(theirs), "claimed by no backend of tenant other")
        self.assertEqual(self.decide(self.token(theirs, header={"alg": "HS256"})).tenant, (self.acme.pk, "acme"))
        revoke(mine)
        self.assertRefused(self.token(theirs, header={"alg": "HS256"}), SIGNATURE)

    def test_a_backends_own_secret_vouches_for_that_backend_alone(self) -> None:
        two = make_served_backend(self.acme, "two.example.com", name="two")
        two.credential.secret = "secret-of-two-secret-of-two-secret"
        two.credential.save()
        header = {"alg": "HS256"}
        self.assertGood(self.token(header=header, secret=two.credential.secret, hostnames=["two.example.com"]))
        self.assertRefused(self.token(header=header, secret=two.credential.secret), SIGNATURE)

    def test_ports_of_two_tenants_with_one_name_and_secret(self) -> None:
        for backend in (self.backend, self.foreign):
            backend.credential.secret = "the-very-same-secret-in-both-of-them"
            backend.credential.save()
        Backend.objects.filter(pk=self.foreign.pk).update(name="edge")
        token = self.token(
            header={"alg": "HS256"}, secret="the-very-same-secret-in-both-of-them", sub="edge", hostnames=None,
            tcp_ports=[853],
        )  # fmt: skip
        self.assertEqual(self.decide(token).tenant, (self.acme.pk, "acme"))

    def test_what_one_tenant_lacks_the_other_does_not_give(self) -> None:
        secret = "the-very-same-secret-in-both-of-them"
        for backend in (self.backend, self.foreign):
            backend.credential.secret = secret
            backend.credential.save()
        Backend.objects.filter(pk=self.foreign.pk).update(name="edge")
        PortClaim.objects.create(backend=self.foreign, transport="tcp", public_port=8530)
        claims = {"sub": "edge", "hostnames": None, "tcp_ports": [853, 8530]}
        token = self.token(header={"alg": "HS256"}, secret=secret, **claims)
        decision = self.assertRefused(token, "beyond backend acme/edge: TCP port 8530 is not claimed")
        self.assertEqual((decision.tenant, decision.backend), ((self.acme.pk, "acme"), (self.backend.pk, "edge")))

    def test_algorithms(self) -> None:
        payload = jwt.decode(self.token(), options={"verify_signature": False})
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        kid = {"kid": self.key.kid}
        invalid = "signing method is invalid"
        self.assertRefused(jwt.encode(payload, None, algorithm="none", headers=kid) + "AA", invalid)
        self.assertRefused(jwt.encode(payload, None, algorithm="none", headers=kid), invalid)
        self.assertRefused(jwt.encode(payload, private, algorithm="RS256", headers=kid), invalid)
        self.assertRefused(jwt.encode(payload, self.key.secret * 2, algorithm="HS512", headers=kid), invalid)
        for alg in ("hs256", "HS256 ", "None", None, ["HS256"], 256):
            self.assertRefused(self.token(header={"alg": alg, **kid}), invalid)
        self.assertRefused(self.token(header=kid), invalid)
        self.assertRefused(self.token(header={"alg": "HS256"}, secret=public.decode()), SIGNATURE)

    def test_key_ids(self) -> None:
        for kid in ("' OR 1=1 --", "../../etc/passwd", "", "a" * 65, "a\0b", "ключ", None, 7, ["a"], {"a": 1}, "a b"):
            with self.subTest(kid):
                self.assertRefused(self.token(header={"alg": "HS256", "kid": kid}), SIGNATURE)
        for extra in ({"jku": "https://evil.example.org"}, {"jwk": {"kty": "oct", "k": "AAAA"}}, {"x5u": "a"}):
            header = {"alg": "HS256", "kid": self.key.kid, **extra}
            self.assertRefused(self.token(header=header, secret="A" * 40), SIGNATURE)
        header = {"alg": "HS256", "kid": self.key.kid, "crit": ["b64"], "b64": False}
        self.assertRefused(self.token(header=header), "header demands extensions")

    def test_a_revoked_token_written_otherwise(self) -> None:
        token = self.token()
        Revocation.objects.create(tenant=self.acme, token_hash=hashlib.sha256(token.encode()).hexdigest())
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = letters.index(token[-1])
        for other in (last ^ 1, last ^ 2, last ^ 3):  # the two bits that 32 bytes leave over
            self.assertRefused(token[:-1] + letters[other], "could not base64 decode signature")
        for text in (token + "=", token.replace(".", ".\n"), token[:-2] + "\u0430a", f"{token}.", f".{token}"):
            self.assertRefused(text, "token is malformed")
        self.assertRefused(token, "revoked")

    def test_members_that_stand_there_twice(self) -> None:
        now = int(time.time())
        rest = f'"iss":"authorizer","aud":"nexus","exp":{now + 30}'
        for body in (
            f'{{"hostnames":["app.example.com"],"hostnames":["app.example.net"],{rest}}}',
            f'{{"hostnames":["app.example.com"],"udp_routes":[{{"port":53,"port":67}}],{rest}}}',
            f'{{"hostnames":["app.example.com"],{rest},"exp":{now + 9999}}}',
            f'{{"hostnames":["app.example.com"],"weight":NaN,{rest}}}',
            f'{{"hostnames":["app.example.com"],"weight":{"9" * 5000},{rest}}}',
            "[" * 15000,
            '["hostnames"]',
            "null",
        ):
            header = {"alg": "HS256", "kid": self.key.kid}
            self.assertRefused(signed(header, body.encode(), self.key.secret), "could not JSON decode claims")
        twice = b'{"alg":"HS256","alg":"none"}'
        self.assertRefused(signed(twice, {"hostnames": ["a.b"]}, self.key.secret), "could not JSON decode header")

    def test_members_that_another_reader_might_take_for_ours(self) -> None:
        claims = self.assertGood(
            self.token(Hostnames=["app.example.net"], HOSTNAMES=["app.example.net"], tcpPorts=[22], admin=True)
        )
        self.assertEqual(set(claims), {"hostnames", "iss", "aud", "iat", "exp"})

    def test_types(self) -> None:
        for claims in (
            {"tcp_ports": [853.0]},
            {"tcp_ports": ["853"]},
            {"tcp_ports": [True]},
            {"tcp_ports": 853},
            {"tcp_ports": [0]},
            {"tcp_ports": [65536]},
            {"tcp_ports": {"853": 1}},
            {"udp_routes": [53]},
            {"udp_routes": [{"port": 53.0}]},
            {"udp_routes": [{"port": 53, "flow_idle_timeout_seconds": -1}]},
            {"weight": 1.0},
            {"weight": 0},
            {"weight": -1},
            {"weight": True},
            {"weight": "1"},
            {"weight": None, "hostnames": "app.example.com"},
            {"hostnames": [["app.example.com"]]},
            {"hostnames": {"app.example.com": 1}},
            {"hostnames": ["app.example.com", 7]},
            {"hostnames": ["app.example.com\0"]},
            {"hostnames": ["app.example.com", "\ud800"]},
            {"hostnames": ["é" * 300]},
            {"hostname": ["app.example.com"]},
            {"hostnames": [], "hostname": None},
            {"outbound_allowed": 1},
            {"outbound_allowed": "true"},
            {"session_nonce": 7},
            {"session_nonce": "n" * 300},
            {"session_nonce": "\ud800"},
            {"reauth_interval_seconds": 1.5},
            {"reauth_interval_seconds": 10**12},
            {"jti": 7},
            {"jti": "\0"},
            {"policy_version": {}},
            {"authorizer_status_uri": ["https://a.example.com"]},
        ):
            with self.subTest(claims):
                self.assertRefused(self.token(**claims), "invalid claims")
        self.assertRefused(self.token(weight=10**7), "weight 10000000 is not from 1")

    def test_names_that_look_like_ours(self) -> None:
        for name in (
            "аpp.example.com",  # a Cyrillic letter
            "app.example.com.evil.example.net",
            "app.example.com..",
            "app..example.com",
            "*.app.example.com",
            "*.*.preview.example.com",
            "*.",
            "*",
            "",
            ".",
            "tcp:853",
            "app.example.com:443",
            "app.example.com/",
        ):
            with self.subTest(name):
                self.assertRefused(self.token(hostnames=[name]), "is claimed by no backend of tenant acme")
                both = self.decide(self.token(hostnames=["app.example.com", name])).reason
                self.assertRegex(both, r"is not one of the backend's|is claimed by no backend")

    def test_size(self) -> None:
        names = [f"host-{n}.example.com" for n in range(10_000)]
        self.assertRefused(self.token(hostnames=names), "token has more than 32768 characters")
        self.assertRefused("a.b." + "c" * 10**6, "token has more than 32768 characters")
        with effort() as made:
            self.assertRefused(self.token(hostnames=["ß" * 62 + f".é{n}.example.com" for n in range(48)]), "no backend")
            self.assertRefused(self.token(hostnames=["xn--" + "9" * 240 + f"{n}" for n in range(80)]), "no backend")
        self.assertLess(made.calls, 300_000)

    def test_a_tenant_of_many_backends_and_keys(self) -> None:
        backends = Backend.objects.bulk_create(Backend(tenant=self.other, name=f"b{n}") for n in range(300))
        name = Hostname.objects.get(name="app.example.net")
        BackendHostname.objects.bulk_create(BackendHostname(backend=each, hostname=name) for each in backends)
        keys = TenantKey.objects.bulk_create(TenantKey(tenant=self.other) for _ in range(200))
        last = backends[-1]
        Credential.objects.create(backend=last, kind="hmac_secret", secret="own-secret-of-the-last-of-them-all")
        names = [name.name, *(f"x{n}.y" for n in range(1500))]
        self.assertGood(self.token(keys[0], hostnames=names[:1]))  # reads all of them
        header, forged = {"alg": "HS256"}, {"header": {"alg": "HS256"}, "secret": "x" * 40}
        own = {"header": header, "secret": "own-secret-of-the-last-of-them-all", "hostnames": names[:1]}
        with effort() as made:
            self.assertIn("and 1497 more", self.decide(self.token(keys[0], hostnames=names)).reason)
            with mock.patch("relay.tokens.jwt.Jwt.is_signed_with", return_value=False) as tries:
                self.assertRefused(self.token(hostnames=names, **forged), SIGNATURE)
            self.assertLessEqual(tries.call_count, MOST_SECRETS)
            self.assertRefused(self.token(hostnames=[*names[:1], *(f"é{n}" for n in range(1500))], **forged), SIGNATURE)
        self.assertLess(made.calls, 600_000)
        # Whom the token names is tried, also where not all are.
        self.assertGood(self.token(sub=last.name, **own))
        self.assertGood(self.token(sub=f"other/{last.name}", **own))

    def test_a_hostname_of_more_backends_than_are_kept(self) -> None:
        backends = Backend.objects.bulk_create(Backend(tenant=self.other, name=f"b{n}") for n in range(30))
        name = Hostname.objects.get(name="app.example.net")
        BackendHostname.objects.bulk_create(BackendHostname(backend=each, hostname=name) for each in backends)
        with (
            mock.patch("tenants.verifier.cache.MOST_OF_A_HOSTNAME", 10),
            mock.patch("tenants.verifier.cache.PRELOADED_BACKENDS", 5),
        ):
            self.assertGood(self.token())
            self.assertGood(self.token(self.foreign_key, hostnames=[name.name]))
        # Not more than are tried, and beside what another tenant has there.
        self.assertEqual(len(self.store.backends), 11)

    def test_no_tokens_at_all(self) -> None:
        for text in ("", ".", "..", "...", "a.b.c", "ä.ö.ü", "\ud800.a.b", "e30.e30.e30", "{}", "a" * 100):
            with self.subTest(text):
                self.assertRefused(text, "jwt validation failed")

    def test_what_is_kept_says_nothing_of_secrets(self) -> None:
        self.assertGood(self.token())
        decision = self.decide(self.token())
        shown = repr((decision, self.store.tenants, self.store.backends))
        self.assertNotIn(self.key.secret, shown)
        self.assertNotIn("not so secret", shown)


class ExpiryOfKeysTest(DecisionTestCase):
    def test_a_key_whose_time_was_moved_into_the_past(self) -> None:
        self.key.accepted_until = timezone.now() - timedelta(seconds=1)
        self.key.save()
        self.assertRefused(self.token(), "has retired")
