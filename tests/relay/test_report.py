"""Tests of what `runrelay --check` says."""

from dataclasses import replace
from types import MappingProxyType

from django.test import SimpleTestCase

from relay import BackendConfig, Claims, HmacSecret, NodeConfig, RelayConfig, RouteTable
from relay.config import HmacSecretFile, PresignedToken, TokenCommand
from relay.report import describe
from tests.relay.configfile.documents import token

BACKEND = BackendConfig(
    key="a",
    name="a",
    nodes=(NodeConfig("wss://nexus.example.com/connect"),),
    credential=HmacSecret("hidden-hidden-hidden-hidden-hidden"),
    claims=Claims(hostnames=("app.example.com",)),
    routes=RouteTable.build([]),
)


def config_of(*backends: BackendConfig) -> RelayConfig:
    return RelayConfig(MappingProxyType({backend.key: backend for backend in backends}))


class DescribeTests(SimpleTestCase):
    def test_credentials_in_words_and_without_secrets(self) -> None:
        for credential, words in (
            (BACKEND.credential, "authenticates by tokens signed with an HMAC secret"),
            (HmacSecretFile("/etc/nexus/key"), "authenticates by tokens signed with the HMAC secret in /etc/nexus/key"),
            (TokenCommand("/bin/attest", ("--hidden",)), "authenticates by tokens that /bin/attest prints"),
            (PresignedToken(token(hostnames=["app.example.com"])), "authenticates by a pre-signed token"),
        ):
            text = describe(config_of(replace(BACKEND, credential=credential)))
            self.assertIn(f"  {words}\n", text)
            self.assertNotRegex(text, "hidden|eyJ")

    def test_a_backend_that_opens_none_says_why(self) -> None:
        for backend, words in (
            (replace(BACKEND, credential=None), "no session: credential 'none' is no way to authenticate"),
            (replace(BACKEND, credential=PresignedToken("abc")), "no session: token '(not shown)' is not a JWT"),
            (replace(BACKEND, nodes=()), "no session: no enabled node is chosen"),
        ):
            text = describe(config_of(backend))
            self.assertIn(f"  {words}", text)
            self.assertNotIn("session to", text)
            self.assertTrue(text.endswith("\n1 backend, 0 sessions"))

    def test_numbers(self) -> None:
        self.assertTrue(describe(config_of(BACKEND)).endswith("\n1 backend, 1 session"))
        two = replace(BACKEND, key="b", nodes=(*BACKEND.nodes, NodeConfig("wss://two.example.com/connect")))
        self.assertTrue(describe(config_of(BACKEND, two)).endswith("\n2 backends, 3 sessions"))
