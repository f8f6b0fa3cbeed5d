"""Tests of relay.config.targets."""

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.config.targets import Target, parse_target
from relay.errors import InvalidValue


class ParseTargetTests(SimpleTestCase):
    GOOD = {
        "localhost:8443": Target("tcp", host="localhost", port=8443),
        "App-1.internal:1": Target("tcp", host="app-1.internal", port=1),
        "my_service:65535": Target("tcp", host="my_service", port=65535),
        "127.0.0.1:80": Target("tcp", host="127.0.0.1", port=80),
        "[::1]:8080": Target("tcp", host="::1", port=8080),
        "[2001:DB8:0:0::1]:53": Target("tcp", host="2001:db8::1", port=53),
        "[fe80::1%eth0]:53": Target("tcp", host="fe80::1%eth0", port=53),
        "bücher.example:80": Target("tcp", host="xn--bcher-kva.example", port=80),
        "unix:/run/app.sock": Target("unix", path="/run/app.sock"),
        "unix:///run/app.sock": Target("unix", path="/run/app.sock"),
    }
    BAD = {
        "": "is empty",
        "  ": "is empty",
        "localhost": "no port",
        "localhost:": "no port",
        ":8080": "no host",
        "localhost:0": "from 1 to 65535",
        "localhost:65536": "from 1 to 65535",
        "localhost:080": "from 1 to 65535",
        "localhost:http": "from 1 to 65535",
        "localhost:-1": "from 1 to 65535",
        "localhost:+1": "from 1 to 65535",
        "localhost:１": "from 1 to 65535",
        "::1:8080": "brackets",
        "[::1]": "no port",
        "[::1]:": "no port",
        "[::1": "no port",
        "[::1]8080": "no port",
        "[localhost]:80": "no IPv6 address",
        "[127.0.0.1]:80": "no IPv6 address",
        "[fe80::1%]:80": "no IPv6 address",
        "[fe80::1%" + "a" * 16 + "]:80": "no IPv6 address",
        "256.0.0.1:80": "IPv4",
        "1.2.3:80": "IPv4",
        "localhost :80": "space",
        " localhost:80": "space",
        "local\x00host:80": "control",
        "-a:80": "no valid host",
        "a..b:80": "no valid host",
        "a" * 64 + ":80": "no valid host",
        "http://localhost:80/": "localhost:80",
        "unix:": "absolute",
        "unix:run/app.sock": "absolute",
        "unix:@abstract": "absolute",
        "unix:/": "directory",
        "unix:/run/": "directory",
        "unix:/" + "a" * 107: "107 bytes",
    }

    def test_good_targets(self) -> None:
        for text, expected in self.GOOD.items():
            with self.subTest(text):
                target = parse_target(text)
                self.assertEqual(target, expected)
                self.assertEqual(parse_target(str(target)), target)

    def test_bad_targets(self) -> None:
        for text, words in self.BAD.items():
            with self.subTest(text), self.assertRaisesRegex(InvalidValue, words):
                parse_target(text)

    def test_credentials_in_a_url_stay_out_of_the_error(self) -> None:
        with self.assertRaises(InvalidValue) as raised:
            parse_target("https://user:hunter2@host:80/?key=hunter3")
        self.assertNotIn("hunter", str(raised.exception))

    def test_text(self) -> None:
        self.assertEqual(str(parse_target("[0::1]:80")), "[::1]:80")
        self.assertEqual(str(parse_target("LOCALHOST:80")), "localhost:80")
        self.assertEqual(str(parse_target("unix:/a")), "unix:/a")

    @given(st.text() | st.text("ab:[]./1unix%@", max_size=20))
    def test_any_text_is_a_target_or_an_invalid_value(self, text: str) -> None:
        try:
            target = parse_target(text)
        except InvalidValue:
            return
        self.assertEqual(parse_target(str(target)), target)
