"""Tests of reading configuration files: what existing users have, and everything that can be wrong with it."""

import os
import stat
import tempfile
from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.config import (
    AttestationOptions,
    FlowControlOptions,
    HealthCheckOptions,
    HmacSecret,
    HmacSecretFile,
    PresignedToken,
    TokenCommand,
    UdpRoute,
)
from relay.configfile import (
    MAX_BYTES,
    ConfigDocument,
    ConfigFileError,
    PortMappingDocument,
    parse_config,
    read_config_file,
)
from tests.relay.configfile.documents import token

CONFIGS = Path(__file__).parents[2] / "data" / "configs"
GOOD = """\
backends:
  - name: edge
    hostnames: [app.example.com]
    nexusAddresses: ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: hunter2}
    portMappings: {443: "localhost:8443"}
"""


def parse(text: str | bytes) -> ConfigDocument:
    return parse_config(text.encode() if isinstance(text, str) else text, "nexus.yaml")


def problems_of(text: str | bytes) -> list[str]:
    try:
        parse(text)
    except ConfigFileError as error:
        return str(error).split("\n")
    return []


class ExistingFilesTests(SimpleTestCase):
    def test_the_attested_generation(self) -> None:
        document = read_config_file(CONFIGS / "attested.yaml")
        first, second, third = document.backends
        self.assertEqual(first.name, "edge-apps")
        self.assertEqual(first.hostnames, ("app.example.com", "*.preview.example.com"))
        self.assertEqual(first.tcp_ports, (53,))
        self.assertEqual(first.udp_routes, (UdpRoute(53, 60),))
        self.assertEqual(first.weight, 2)
        self.assertEqual(
            first.credential,
            TokenCommand(
                "/usr/local/bin/nexus-attestor",
                ("--backend=edge-apps",),
                (("AUTHORIZER_BASE_URL", "https://authorizer.example.com"),),
                20.0,
            ),
        )
        self.assertEqual(
            first.attestation,
            AttestationOptions(token_ttl=45, cache_handshake=30, reauth_interval=900, reauth_grace=15),
        )
        self.assertEqual((first.outbound_allowed, first.allowed_outbound_ports), (True, (25, 465, 587)))
        self.assertEqual(
            first.port_mappings,
            (
                PortMappingDocument(53, "localhost:5353"),
                PortMappingDocument(
                    443,
                    "localhost:8443",
                    (("*.preview.example.com", "localhost:10443"), ("api.example.com", "localhost:9443")),
                ),
                PortMappingDocument(993, "localhost:993"),
            ),
        )
        self.assertEqual(first.health_checks, HealthCheckOptions(True, 90.0, 5.0))
        self.assertEqual(first.flow_control, FlowControlOptions(high_water=96, low_water=16, max_buffer=128))
        self.assertEqual(first.socks5_listen, "127.0.0.1:1080")
        self.assertEqual(second.credential, HmacSecret("not a real secret"))
        self.assertEqual(
            second.port_mappings, (PortMappingDocument(443, None, (("one.example.com", "unix:/run/one.sock"),)),)
        )
        self.assertEqual(third.credential, HmacSecretFile("/etc/nexus/key"))
        self.assertEqual(third.hostnames, ("xn--bcher-kva.example",))
        self.assertEqual(third.attestation.policy_version, "2026-01-01")
        self.assertEqual(document.warnings, ())

    def test_the_token_generation(self) -> None:
        document = read_config_file(CONFIGS / "token.yaml")
        self.assertTrue(all(isinstance(backend.credential, PresignedToken) for backend in document.backends))
        self.assertEqual(document.backends[1].hostnames, ("old.example.com",))
        self.assertEqual([mapping.port for mapping in document.backends[1].port_mappings], [80, 443])
        self.assertEqual(document.warnings, ())

    def test_secrets_are_not_in_the_repr(self) -> None:
        for name in ("attested.yaml", "token.yaml"):
            self.assertNotRegex(repr(read_config_file(CONFIGS / name)), "not a real secret|eyJ|--backend|AUTHORIZER")

    def test_defaults(self) -> None:
        backend = parse(GOOD).backends[0]
        self.assertEqual(backend.weight, 1)
        self.assertEqual(backend.health_checks, HealthCheckOptions())
        self.assertEqual(backend.flow_control, FlowControlOptions())
        self.assertEqual(backend.attestation, AttestationOptions())

    def test_empty_values_stand_for_nothing(self) -> None:
        extra = (
            "    hostname: ''\n    authToken: ''\n    tcpPorts: []\n    udpRoutes:\n    weight: ~\n"
            "    socks5ListenAddr: ''\n    healthChecks: {}\n    flowControl:\n"
        )
        self.assertEqual(parse(GOOD + extra), parse(GOOD))

    def test_encodings(self) -> None:
        for encoding in ("utf-8-sig", "utf-16"):
            self.assertEqual(parse(GOOD.encode(encoding)), parse(GOOD))

    def test_anchors_and_merge_keys(self) -> None:
        text = """\
backends:
  - &first
    name: one
    hostnames: [one.example.com]
    nexusAddresses: &nodes ["wss://nexus.example.com/connect"]
    attestation: {hmacSecret: hunter2}
    portMappings: {443: "localhost:8443"}
  - <<: *first
    name: two
    hostnames: [two.example.com]
  - <<: [*first]
    name: three
    nexusAddresses: *nodes
"""
        document = parse(text)
        self.assertEqual([backend.name for backend in document.backends], ["one", "two", "three"])
        self.assertEqual(document.backends[1].hostnames, ("two.example.com",))
        self.assertEqual(document.backends[2].port_mappings, document.backends[0].port_mappings)

    def test_a_problem_found_later_has_its_place(self) -> None:
        document = parse(GOOD)
        self.assertEqual(
            str(document.problem("backends[0].hostnames[0]", "is taken: choose another")),
            "nexus.yaml:3:17: backends[0].hostnames[0]: is taken: choose another",
        )
        self.assertEqual(document.problem("backends[0].portMappings.443.default", "").line, 6)
        self.assertEqual(document.problem("backends[0].weight", "").line, 2)
        self.assertEqual(document.problem("backends[7]", "").line, 0)


class WrongValueTests(SimpleTestCase):
    """Each case: a replacement in a good file, and what the one problem says."""

    CASES = (
        ("name: edge", "name:", "nexus.yaml:2:5: backends[0].name: is missing: give the backend a name"),
        ("name: edge", "name: [a]", "nexus.yaml:2:11: backends[0].name: is a list: give the backend a name"),
        ("name: edge", "name: ''", "is empty"),
        ("name: edge", "name: '  '", "is empty"),
        ("[app.example.com]", "app.example.com", "hostnames: is 'app.example.com': write a list"),
        ("[app.example.com]", "[[app.example.com]]", "hostnames[0]: is a list"),
        ("[app.example.com]", "[~]", "backends[0].hostnames: is missing"),
        ("[app.example.com]", "[]", "backends[0].hostnames: is missing"),
        ("[app.example.com]", '["*.com"]', "would match a whole top-level domain"),
        ("[app.example.com]", '["tcp:53"]', "claimed port"),
        ("[app.example.com]", '["a b.com"]', "space"),
        ("hostnames: [app.example.com]", "hostname: [a]", "hostname: is a list"),
        ("hostnames:", "hostnmaes:", "is an unknown key: did you mean hostnames?"),
        ("hostnames:", "HostNames:", "did you mean hostnames?"),
        ("name: edge", "name: edge\n    hmacSecret: x", "is an unknown key: hmacSecret belongs to the attestation"),
        ("name: edge", "name: edge\n    zzz: x", "is an unknown key: the keys here are attestation, authToken"),
        ("name: edge", "name: edge\n    weight: yes", "weight: is 'yes', not a whole number"),
        ("name: edge", "name: edge\n    weight: '2'", "is the text '2': write the number without quotes"),
        ("name: edge", "name: edge\n    weight: 99999999999999999999", "not a whole number"),
        ("name: edge", "name: edge\n    weight: {a: 1}", "weight: is a mapping"),
        ("name: edge", "name: edge\n    tcpPorts: 53", "tcpPorts: is '53': write a list"),
        ("name: edge", "name: edge\n    tcpPorts: [0]", "tcpPorts[0]: port '0' is"),
        ("name: edge", "name: edge\n    tcpPorts: [65536]", "out of range"),
        ("name: edge", "name: edge\n    tcpPorts: [true]", "tcpPorts[0]: is 'true', not a whole number"),
        ("name: edge", "name: edge\n    tcpPorts: ['53']", "write the number without quotes"),
        ("name: edge", "name: edge\n    udpRoutes: [53]", "udpRoutes[0]: is '53'"),
        ("name: edge", "name: edge\n    udpRoutes: [{}]", "udpRoutes[0].port: is missing"),
        ("name: edge", "name: edge\n    udpRoutes: [{port: 443}, {port: 443}]", "stands twice"),
        ("name: edge", "name: edge\n    udpRoutes: [{port: 1, timeout: 2}]", "unknown key"),
        ("name: edge", "name: edge\n    udpRoutes: [{port: 443, flowIdleTimeoutSeconds: -1}]", "0 or more"),
        ('["wss://nexus.example.com/connect"]', "[]", "nexusAddresses: is missing"),
        ('["wss://nexus.example.com/connect"]', "wss://nexus.example.com", "nexusAddresses: is 'wss:"),
        ('"wss://nexus.example.com/connect"', '"ws://nexus.example.com"', "not encrypted"),
        ("attestation: {hmacSecret: hunter2}", "weight: 1", "backends[0]: has no credential"),
        ("{hmacSecret: hunter2}", "{}", "names no source of tokens"),
        ("{hmacSecret: hunter2}", "{args: [a]}", "names no source of tokens"),
        ("{hmacSecret: hunter2}", "hunter2", "attestation: is a text (not shown)"),
        ("{hmacSecret: hunter2}", "{hmacSecret: [hunter2]}", "hmacSecret: is a list"),
        ("{hmacSecret: hunter2}", "{command: /x, args: hunter2}", "args: is"),
        ("{hmacSecret: hunter2}", "{command: /x, args: [[hunter2]]}", "args[0]: is a list"),
        ("{hmacSecret: hunter2}", "{command: /x, env: [A=hunter2]}", "env: is a list"),
        ("{hmacSecret: hunter2}", "{command: /x, env: {A: [hunter2]}}", "env.A: is a list"),
        ("{hmacSecret: hunter2}", "{command: /x, env: {A=B: hunter2}}", "env: has a name"),
        ("{hmacSecret: hunter2}", "{command: /x, timeoutSeconds: 15s}", "timeoutSeconds: is '15s', not a whole number"),
        ("hunter2}", "hunter2, outboundAllowed: maybe}", "outboundAllowed: is 'maybe': write true or false"),
        ("hunter2}", "hunter2, outboundAllowed: 'true'}", "write true or false"),
        ("hunter2}", "hunter2, tokenTTL: 5}", "did you mean tokenTTLSeconds?"),
        ("attestation: {hmacSecret: hunter2}", "authToken: hunter2", "the token is not a JWT"),
        ("attestation: {hmacSecret: hunter2}", "authToken: [hunter2]", "authToken: is a list"),
        ("name: edge", f"name: edge\n    authToken: {token()}", "authToken: stands beside attestation"),
        ('    portMappings: {443: "localhost:8443"}\n', "", "portMappings: is missing"),
        ('{443: "localhost:8443"}', "[443]", "portMappings: is a list"),
        ('{443: "localhost:8443"}', "{}", "portMappings: is missing"),
        ("{443:", "{https:", "portMappings.https: is 'https', not a whole number"),
        ("{443:", "{70000:", "out of range"),
        ("{443:", '{443: "a:1", "443":', "nexus.yaml:6:32: backends[0].portMappings.443: the key stands twice"),
        ('"localhost:8443"', "localhost", "portMappings.443: target 'localhost' has no port"),
        ('"localhost:8443"', "8443", "has no port"),
        ('"localhost:8443"', "[a]", "target 'a' has no port"),
        ('"localhost:8443"', "[]", "is empty"),
        ('"localhost:8443"', "", "portMappings.443: is empty: write"),
        ('"localhost:8443"', "{}", "has neither default nor hosts"),
        ('"localhost:8443"', "{hosts: {'a:1': 'b:1'}}", "has no default, and no host route that a user can come to"),
        ('{443: "localhost:8443"}', "{~: 'a:1'}", "portMappings: is missing"),
        ('"localhost:8443"', "{default: ''}", "has neither default nor hosts"),
        ('"localhost:8443"', "{defualt: 'a:1'}", "did you mean default?"),
        ('"localhost:8443"', "{hosts: [a]}", "hosts: is a list"),
        ('"localhost:8443"', "{hosts: {a.com: http://b}}", 'portMappings.443.hosts."a.com": target'),
        ("name: edge", "name: edge\n    healthChecks: true", "healthChecks: is 'true': write a mapping"),
        ("name: edge", "name: edge\n    healthChecks: {inactivityTimeout: 60s}", "not a whole number"),
        ("name: edge", "name: edge\n    flowControl: {lowWaterMark: 48}", "each must exceed the last"),
        ("name: edge", "name: edge\n    flowControl: {maxBuffer: 48}", "each must exceed the last"),
        ("name: edge", "name: edge\n    socks5ListenAddr: 1080", "has no port"),
        ("name: edge", "name: edge\n    socks5ListenAddr: 'unix:/a'", "is not a host and port"),
        ("backends:\n", "backends:\n  - edge\n", "nexus.yaml:2:5: backends[0]: is 'edge': write a mapping"),
        (
            "backends:\n",
            "logLevel: debug\nbackends:\n",
            "nexus.yaml:1:1: logLevel: is an unknown key: the keys here are",
        ),
    )

    def test_each_is_one_problem_with_its_place_and_remedy(self) -> None:
        self.assertEqual(problems_of(GOOD), [])
        for old, new, expected in self.CASES:
            with self.subTest(new):
                self.assertIn(old, GOOD)
                problems = problems_of(GOOD.replace(old, new, 1))
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(expected, problems[0])
                self.assertRegex(problems[0], r"^nexus\.yaml:\d+:\d+: \S+: .+[:?] ?")

    def test_no_secret_is_shown(self) -> None:
        for old, new, _ in self.CASES:
            with self.subTest(new):
                self.assertNotIn("hunter2", "".join(problems_of(GOOD.replace(old, new, 1))))

    def test_everything_is_said_at_once_in_the_order_of_the_file(self) -> None:
        text = GOOD.replace("edge", "''").replace("8443", "0").replace("hostnames", "hostname")
        text += GOOD.removeprefix("backends:\n").replace("nexus.example", "user:pw@nexus.example") + "    weight: no\n"
        problems = problems_of(text)
        self.assertEqual([problem.split(": ")[0].split(":")[1] for problem in problems], ["2", "3", "6", "9", "12"])
        self.assertNotIn("pw", "".join(problems))

    def test_a_long_list_of_problems_is_cut(self) -> None:
        problems = problems_of("backends:\n" + "- a\n" * 20_000)
        self.assertEqual(len(problems), 1001)
        self.assertEqual(problems[-1], "… and 9000 more problems")


class UnderstoodTests(SimpleTestCase):
    """Each case: a replacement in a good file, the one warning, and what the file says then in its first backend."""

    CASES: tuple[tuple[str, str, str, dict[str, object]], ...] = (
        ("[app.example.com]", "[a.com, ~, '']", "is an empty item", {"hostnames": ("a.com",)}),
        ("[app.example.com]", "[a.com, A.com.]", "hostnames[1]: the hostname 'a.com' is here again (first in line 3)",
         {"hostnames": ("a.com",)}),
        ("name: edge", "name: edge\n    hostname: b.com", "hostname: is given beside hostnames: it is added",
         {"hostnames": ("app.example.com", "b.com")}),
        ("[app.example.com]", "[192.0.2.1]", "who send it as Host of plain HTTP", {"hostnames": ("192.0.2.1",)}),
        ("name: edge", "name: edge\n    weight: 0", "weight: is 0: taken as the default, 1", {"weight": 1}),
        ("name: edge", "name: edge\n    weight: -1", "weight: is -1: taken as the default, 1", {"weight": 1}),
        ("name: edge", "name: edge\n    weight: 1.5", "weight: is 1.5: taken as 1", {"weight": 1}),
        ("name: edge", "name: edge\n    weight: 0x10", "weight: is 0x10: taken as 16", {"weight": 16}),
        ("name: edge", "name: edge\n    weight: 010", "an octal number in YAML: taken as 8; write 10 if that is meant",
         {"weight": 8}),
        ("name: edge", "name: edge\n    weight: 99999999999", "taken as 2147483647", {"weight": 2147483647}),
        ("name: edge", "name: edge\n    weight: !!int '5'", "", {"weight": 5}),
        ("name: edge", "name: edge\n    tcpPorts: !x [443]", "has a YAML tag", {"tcp_ports": (443,)}),
        ("name: edge", "name: edge\n    tcpPorts: [443, ~, 443]", "is an empty item", {"tcp_ports": (443,)}),
        ("name: edge", "name: edge\n    udpRoutes: [~, {port: 443}]", "is an empty item",
         {"udp_routes": (UdpRoute(443),)}),
        ("name: edge", "name: edge\n    ~: x", "has a key that is empty", {}),
        ("name: edge", f"name: {'a' * 201}", "or more than 200 characters: this backend is", {"name": "a" * 200}),
        ("name: edge", 'name: "a\\u0007b"', "holds control characters", {"name": "a b"}),
        ("wss://nexus.example.com/connect", "https://nexus.example.com/connect", "is taken as wss://", {}),
        ('"wss://nexus.example.com/connect"', '"wss://a.example", ~, "wss://A.example:443/"', "is here again",
         {"nexus_addresses": ("wss://a.example/connect",)}),
        ('"wss://nexus.example.com/connect"', '"wss://a.example/?k=hunter2"', "its query (?) is kept",
         {"nexus_addresses": ("wss://a.example/connect?k=hunter2",)}),
        ("{hmacSecret: hunter2}", "{hmacSecret: hunter2, command: /bin/x}", "hmacSecret: is not used",
         {"credential": TokenCommand("/bin/x")}),
        ("{hmacSecret: hunter2}", "{hmacSecret: hunter2, hmacSecretFile: /k}", "hmacSecretFile: is not used",
         {"credential": HmacSecret("hunter2")}),
        ("{hmacSecret: hunter2}", "{command: /x, args: [a, ~, 2.50]}", "args[1]: is an empty item",
         {"credential": TokenCommand("/x", ("a", "2.50"))}),
        ("hunter2}", "hunter2, allowedOutboundPorts: [25]}", "outbound stays off", {"allowed_outbound_ports": ()}),
        ("hunter2}", "hunter2, outboundAllowed: 'yes'}", "", {"outbound_allowed": True}),
        ("{443:", "{0443:", "is 0443, an octal number in YAML: taken as 291; write 443",
         {"port_mappings": (PortMappingDocument(291, "localhost:8443"),)}),
        ("{443:", "{0xcc9f:", "portMappings.0xcc9f: is 0xcc9f: taken as 52383",
         {"port_mappings": (PortMappingDocument(52383, "localhost:8443"),)}),
        ("{443:", '{"443":', "", {"port_mappings": (PortMappingDocument(443, "localhost:8443"),)}),
        ("{443:", "{80: {hosts: {'a:1': 'b:1'}}, 443:", "80: has no default, and no host route that a user can come to",
         {"port_mappings": (PortMappingDocument(443, "localhost:8443"),)}),
        ("{443:", "{70000: 'a:1', 443:", "public port 70000 is out of range",
         {"port_mappings": (PortMappingDocument(443, "localhost:8443"),)}),
        ("{443:", "{0x1bb: 'a:1', 443:", "the port 443 is here again: the last of its mappings is taken",
         {"port_mappings": (PortMappingDocument(443, "localhost:8443"),)}),
        ('"localhost:8443"', '":https"', "443: is taken as localhost:443",
         {"port_mappings": (PortMappingDocument(443, "localhost:443"),)}),
        ('"localhost:8443"', "[a:01, ~]", "is taken as a:1", {"port_mappings": (PortMappingDocument(443, "a:1"),)}),
        ('"localhost:8443"', "{hosts: {A.com: 'b:1', a.com: 'b:2'}}", "is a.com again (first in line 6): the route of",
         {"port_mappings": (PortMappingDocument(443, None, (("a.com", "b:2"),)),)}),
        ('"localhost:8443"', "{default: 'a:1', hosts: {'a:80': 'b:1'}}", "the route is left out",
         {"port_mappings": (PortMappingDocument(443, "a:1"),)}),
        ('"localhost:8443"', "{hosts: {'*.com': 'b:1'}}", "",
         {"port_mappings": (PortMappingDocument(443, None, (("*.com", "b:1"),)),)}),
        ('"localhost:8443"}', "{hosts: {'tcp:443': 'b:1'}}}\n    tcpPorts: [443]", "taken as its default, b:1",
         {"port_mappings": (PortMappingDocument(443, "b:1"),)}),
        ('"localhost:8443"', "{default: 'a:1', hosts: {'udp:443': 'b:1'}}", "443 is not claimed for UDP",
         {"port_mappings": (PortMappingDocument(443, "a:1"),)}),
        ("name: edge", "name: edge\n    healthChecks: {pongTimeout: 0, enabled: y}", "taken as the default, 5",
         {"health_checks": HealthCheckOptions()}),
        ("name: edge", "name: edge\n    flowControl: {lowWaterMark: 0}", "taken as the default, 16",
         {"flow_control": FlowControlOptions()}),
        ("name: edge", "name: edge\n    socks5ListenAddr: ':1080'", "127.0.0.1:1080, on loopback alone",
         {"socks5_listen": "127.0.0.1:1080"}),
        ("backends:\n", "backends:\n  -\n", "nexus.yaml:2:4: backends[0]: is an empty item", {"name": "edge"}),
        ('"localhost:8443"}\n', '"localhost:8443"}\n---\n\tbad: [\n', "nexus.yaml:7:1: holds more than one YAML",
         {"name": "edge"}),
    )  # fmt: skip

    def test_each_is_taken_with_a_warning_that_says_how(self) -> None:
        for old, new, warning, said in self.CASES:
            with self.subTest(new):
                self.assertIn(old, GOOD)
                document = parse(GOOD.replace(old, new, 1))
                warnings = [str(each) for each in document.warnings]
                self.assertIn(warning, "".join(warnings))
                self.assertEqual(bool(warnings), bool(warning), warnings)
                self.assertNotIn("hunter2", "".join(warnings))
                for name, value in said.items():
                    self.assertEqual(getattr(document.backends[0], name), value, name)
                for each in warnings:
                    self.assertRegex(each, r"^nexus\.yaml:\d+:\d+: .+")

    def test_what_udp_and_tcp_would_share_is_an_error(self) -> None:
        text = (
            GOOD.replace('"localhost:8443"', "{default: 'a:1', hosts: {'udp:443': 'b:1'}}")
            + "    udpRoutes: [{port: 443}]\n"
        )
        self.assertIn("TCP and UDP of a port go to the same targets here", problems_of(text)[0])

    def test_backends_of_one_name_are_told_apart(self) -> None:
        second = GOOD.removeprefix("backends:\n")
        document = parse(GOOD + second + second.replace("name: edge", "name: edge-2"))
        self.assertEqual([backend.name for backend in document.backends], ["edge", "edge-3", "edge-2"])
        self.assertEqual(
            [str(warning) for warning in document.warnings],
            [
                "nexus.yaml:7:11: backends[1].name: 'edge' is the name of another backend too (in line 2): "
                "this one is called 'edge-3'"
            ],
        )

    def test_what_several_aliases_repeat_is_said_once(self) -> None:
        second = GOOD.removeprefix("backends:\n").replace("edge", "two").replace('{443: "localhost:8443"}', "*ports")
        document = parse(GOOD.replace('{443: "localhost:8443"}', '&ports {443: ":8443"}') + second)
        self.assertEqual(len(document.backends), 2)
        self.assertEqual(len(document.warnings), 1)


class WarningTests(SimpleTestCase):
    def warnings_of(self, text: str) -> list[str]:
        return [str(warning) for warning in parse(text).warnings]

    def test_claimed_ports_without_a_target(self) -> None:
        self.assertEqual(
            self.warnings_of(GOOD + "    tcpPorts: [53, 443]\n"),
            [
                "nexus.yaml:2:5: backends[0].tcpPorts: port 53 is claimed and has no default target: "
                "its streams will be refused until portMappings has 53"
            ],
        )

    def test_tokens(self) -> None:
        text = GOOD.replace("attestation: {hmacSecret: hunter2}", "authToken: %s")
        self.assertEqual(self.warnings_of(text % token(hostname="APP.example.com.")), [])
        self.assertIn("has expired", self.warnings_of(text % token(hostnames=["app.example.com"], exp=1))[0])
        self.assertIn("does not claim app.example.com", self.warnings_of(text % token(hostnames=["b.example.com"]))[0])

    def test_command_options_without_a_command(self) -> None:
        self.assertIn("has no effect beside hmacSecret", self.warnings_of(GOOD.replace("hunter2}", "x, args: [a]}"))[0])


class UnreadableTextTests(SimpleTestCase):
    CASES = {
        b"": "nexus.yaml:1:1: is empty",
        b"# nothing\n\n": "is empty",
        b"---\n...\n": "is empty",
        b"~": "is empty",
        b"- a": "nexus.yaml:1:1: is a list",
        b"hello": "is 'hello'",
        b"{}": "backends: is missing",
        b"backends: []": "is an empty list",
        b"backends:": "backends: is missing",
        b"backends: {}": "backends: is a mapping",
        b"a: b: c": "nexus.yaml:1:5: this is not YAML",
        b"a:\n\tb: 1": "nexus.yaml:2:1: this is not YAML",
        b'a: "b': "this is not YAML",
        b"a: \x01": "this is not YAML text",
        b"backends: [{name: '\0'}]": "is a binary file",
        b"\x7fELF\x02\x01\x01\0\0": "is a binary file",
        bytes(range(1, 256)): "is not text in UTF-8 (byte 127)",
        b"\n\n\xff\xfe": "nexus.yaml:3:1: is not text in UTF-8",
        b"\xff\xfea": "is not text in UTF-16",
        b"[" * 100_000: "nested more than 32 levels",
        b"- " * 100_000: "nested more than 32 levels",
        b"{a: " * 100_000: "nested more than 32 levels",
        b"backends: &a [*a]": "refers to an anchor that holds itself",
        b"backends: *a": "refers to an anchor that is not defined",
        b"backends: !!python/object:os.system []": "is an empty list",
        b"backends: []\nbackends: []": "nexus.yaml:2:1: backends: the key stands twice (first in line 1)",
        b"? [a]\n: b": "has a list or a mapping for a key",
        b"<<: 1": "<< takes a mapping",
    }

    def test_each_is_a_clear_message(self) -> None:
        for data, expected in self.CASES.items():
            with self.subTest(data[:40]):
                self.assertIn(expected, "\n".join(problems_of(data)))

    def test_anchors_that_blow_up(self) -> None:
        lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]" for i in range(20)]
        self.assertIn("holds more than 4000000 values", problems_of("\n".join(lines))[0])
        merges = [f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}, *m{i - 1}]}}" for i in range(1, 25)]
        self.assertIn("holds more than 4000000 values", problems_of("m0: &m0 {a: 1}\n" + "\n".join(merges))[0])


class UnreadableFileTests(SimpleTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def problem(self, path: Path | str) -> str:
        with self.assertRaises(ConfigFileError) as raised:
            read_config_file(path)
        self.assertEqual(len(raised.exception.problems), 1)
        return str(raised.exception)

    def test_files_that_can_not_be_opened(self) -> None:
        self.assertEqual(self.problem(self.folder), f"{self.folder}: is a directory: name the file in it")
        self.assertIn("does not exist", self.problem(self.folder / "none.yaml"))
        (self.folder / "file").write_text(GOOD)
        self.assertIn("Not a directory", self.problem(self.folder / "file" / "none.yaml"))
        self.assertIn("is not a path", self.problem("a\0b"))
        self.assertIn("File name too long", self.problem("a" * 5000))
        if os.geteuid():
            (self.folder / "file").chmod(0)
            self.assertIn("may not be read", self.problem(self.folder / "file"))

    def test_a_large_file_is_not_read(self) -> None:
        path = self.folder / "large.yaml"
        with path.open("wb") as file:
            file.truncate(MAX_BYTES + 1)
        self.assertLess(path.stat().st_blocks * 512, MAX_BYTES)
        self.assertIn("is larger than 64 MiB", self.problem(path))
        device = Path("/dev/zero")
        if device.exists() and stat.S_ISCHR(device.stat().st_mode):
            self.assertIn("is larger than 64 MiB", self.problem(device))

    def test_a_good_file(self) -> None:
        (self.folder / "nexus.yaml").write_text(GOOD)
        self.assertEqual(read_config_file(self.folder / "nexus.yaml"), parse(GOOD))

    def test_insecure_addresses_can_be_allowed(self) -> None:
        text = GOOD.replace("wss:", "ws:").encode()
        document = parse_config(text, "nexus.yaml", allow_insecure=True)
        self.assertEqual(document.backends[0].nexus_addresses, ("ws://nexus.example.com/connect",))


SYNTAX = st.lists(
    st.sampled_from(
        [
            "backends",
            "name",
            "hosts",
            "attestation",
            "portMappings",
            "443",
            ": ",
            "- ",
            "\n",
            "  ",
            "{",
            "}",
            "[",
            "]",
            "&a ",
            "*a",
            "<<",
            "'",
            '"',
            "!!str ",
            "#",
            ",",
            "|\n",
            "? ",
            "---\n",
            "\t",
            "\\u0000",
            "é",
            "~",
            "yes",
        ]
    ),
    max_size=30,
).map(lambda parts: "".join(parts).encode())


class AnyInputTests(SimpleTestCase):
    @settings(max_examples=150)
    @given(
        st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")) | SYNTAX
    )
    @example(b"? &a [*a]\n: b")
    @example(b"&a a: *a")
    @example(b"<<: &a {<<: {b: 1}}")
    def test_any_bytes_are_a_document_or_a_config_file_error(self, data: bytes) -> None:
        self.check(data)

    @settings(max_examples=150)
    @given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), SYNTAX)
    def test_any_edit_of_a_good_file_too(self, start: int, end: int, patch: bytes) -> None:
        text = GOOD.encode()
        self.check(text[: min(start, end)] + patch + text[max(start, end) :])

    def check(self, data: bytes) -> None:
        try:
            document = parse(data)
        except ConfigFileError as error:
            self.assertTrue(error.problems)
            return
        self.assertTrue(document.backends)
