"""Tests of what `runrelay --check` says."""

from dataclasses import replace
from types import MappingProxyType

from django.test import SimpleTestCase

from relay import BackendConfig, Claims, HmacSecret, NodeConfig, PortRoutes, RelayConfig, RouteTable
from relay.config import HmacSecretFile, PresignedToken, TokenCommand
from relay.config.port_options import AccessList, AccessMode, PortOptions, ProxyProtocol, TargetHealth, TargetOrder
from relay.config.target_policy import TargetPolicy
from relay.plan import describe
from tests.relay.configfile.documents import token

ROUND_ROBIN = TargetOrder.ROUND_ROBIN
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

    def test_a_socks5_address_that_is_not_opened_says_why(self) -> None:
        for address, beyond_loopback, opened in (
            ("127.0.0.1:1080", False, True),
            ("10.0.0.1:1080", False, False),
            ("10.0.0.1:1080", True, True),
        ):
            text = describe(config_of(replace(BACKEND, socks5_listen=address)), beyond_loopback)
            self.assertIn(f"SOCKS5 at {address}", text)
            self.assertEqual("not opened" not in text, opened)

    def routes_of(self, *mappings: PortRoutes) -> list[str]:
        lines = describe(config_of(replace(BACKEND, routes=RouteTable.build(mappings)))).splitlines()
        return [line.strip() for line in lines if line.startswith(("  tcp", "  udp"))]

    def test_routes(self) -> None:
        self.assertEqual(
            self.routes_of(
                PortRoutes("tcp", 80, "a:1, b:2", {"app.example.com": "c:3"}),
                PortRoutes("tcp", 443, "a:1", {"app.example.com": "a:1,b:2"}, PortOptions(target_order=ROUND_ROBIN)),
                PortRoutes("udp", 53),
            ),
            [
                "tcp 80 app.example.com -> c:3",
                "tcp 80 others -> a:1, else b:2",
                "tcp 443 app.example.com -> a:1 and b:2 in turn",
                "tcp 443 others -> a:1",
                "udp 53 others -> refused",
            ],
        )

    def test_targets_that_are_refused(self) -> None:
        routes = RouteTable.build(
            [PortRoutes("tcp", 80, "a:1,127.0.0.1:1", {"x.example.com": "localhost:2", "y.example.com": "127.0.0.1:1"})]
        )
        backend = replace(BACKEND, routes=routes)
        self.assertNotIn("is refused", describe(config_of(backend)))
        text = describe(config_of(replace(backend, target_policies=(TargetPolicy(),))))
        lines = [line.partition(", which")[0] for line in text.splitlines() if "is refused" in line]
        self.assertEqual(
            sorted(lines),
            [
                "  tcp 80: 127.0.0.1:1 is refused: 127.0.0.1 is the relay's own machine",
                "  tcp 80: localhost:2 is refused: 127.0.0.1 is the relay's own machine",
            ],
        )

    def test_options_that_are_not_the_defaults(self) -> None:
        options = PortOptions(
            proxy_protocol=ProxyProtocol.V2,
            access=AccessList(("192.0.2.0/24", "2001:db8::/32"), ("192.0.2.9/32",), AccessMode.OBSERVE),
            target_health=TargetHealth(interval=10),
            dial_timeout=2.5,
        )
        self.assertEqual(
            self.routes_of(PortRoutes("tcp", 80, "a:1", options=options))[1],
            "tcp 80: PROXY protocol v2 to targets; dial timeout 2.5 s; "
            "targets checked every 10 s (timeout 2 s, down after 3, up after 2); "
            "users allowed from 192.0.2.0/24, 2001:db8::/32, observed only; "
            "users denied from 192.0.2.9/32, observed only",
        )
        (enforced,) = self.routes_of(
            PortRoutes("tcp", 80, "a:1", options=PortOptions(access=AccessList(deny=("::/0",))))
        )[1:]
        self.assertEqual(enforced, "tcp 80: users denied from ::/0")
