"""Tests of relay.config.hostnames: the recorded pairs, IDNA's edges, the strict check."""

import json
from pathlib import Path

from django.test import SimpleTestCase
from hypothesis import example, given
from hypothesis import strategies as st

from relay.config.hostnames import (
    check_hostname,
    normalise_hostname,
    normalise_pattern,
    requested_name,
    wildcard_suffix,
)
from relay.errors import InvalidValue
from tests.support.effort import effort

VECTORS = Path(__file__).parents[2] / "data" / "vectors" / "hostnames.json"

LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True).filter(
    lambda label: label[2:4] != "--"
)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join).filter(lambda n: not n.rpartition(".")[2].isdigit())


class VectorTests(SimpleTestCase):
    def test_recorded_pairs(self) -> None:
        for case in json.loads(VECTORS.read_text())["cases"]:
            with self.subTest(case["input"]):
                self.assertEqual(normalise_hostname(case["input"]), case["hostname"])
                self.assertEqual(normalise_pattern(case["input"]), case["pattern"])
                self.assertEqual(wildcard_suffix(case["input"]), case["wildcard_suffix"])


class NormalFormTests(SimpleTestCase):
    # The results below are those of the lookup profile with the tables of Unicode 15.0.
    ACCEPTED = {
        "faß.de": "xn--fa-hia.de",
        "FAẞ.de": "fass.de",
        "Ｂücher。example": "xn--bcher-kva.example",
        "XN--BCHER-KVA.example": "xn--bcher-kva.example",
        "xn--abc-.example": "abc.example",
        "a\u00adb.example": "ab.example",
        "u\u0308ber.example": "xn--ber-goa.example",
        "क्\u200dष.example": "xn--11b2ezcw70k.example",
        "אב.example": "xn--4dbc.example",
        "①.example": "1.example",
        "a" * 70 + "é.com": "xn--" + "a" * 70 + "-9eg.com",
        "\u00a0example.com\u2003": "example.com",
    }
    REFUSED = {
        "_x.bücher.example": "_x.bücher.example",
        "*.BÜCHER.example": "*.bücher.example",
        "-é.com": "-é.com",
        "é-.com": "é-.com",
        "ab--é.com": "ab--é.com",
        "\u0301a.com": "\u0301a.com",
        "a\u200db.com": "a\u200db.com",
        "אa.com": "אa.com",
        "1.אב": "1.אב",
        "a≠b.com": "a≠b.com",
        "xn--zzzzzzzz.com": "xn--zzzzzzzz.com",
        "xn---1pm.com": "xn---1pm.com",
        "İ b": "i b",
        "ΑΣ b": "ασ b",
        "\x1cexample.com": "\x1cexample.com",
        "xn--": "xn--",
        "a" * 2000 + "É": "a" * 2000 + "é",
    }

    def test_names_that_idna_takes(self) -> None:
        for text, expected in self.ACCEPTED.items():
            with self.subTest(text):
                self.assertEqual(normalise_hostname(text), expected)

    def test_names_that_idna_refuses_stay_lower_cased(self) -> None:
        for text, expected in self.REFUSED.items():
            with self.subTest(text):
                self.assertEqual(normalise_hostname(text), expected)

    def test_a_wildcard_normalises_its_suffix_alone(self) -> None:
        self.assertEqual(normalise_pattern("*.BÜCHER.example."), "*.xn--bcher-kva.example")
        self.assertEqual(wildcard_suffix("*.BÜCHER.example"), ".xn--bcher-kva.example")

    @given(st.text() | st.text("xn-*.:אéß\u200d१", max_size=40))
    @example("\ud800.com")
    @example("xn--99999999999.com")
    def test_no_text_raises(self, text: str) -> None:
        normalise_hostname(text)
        suffix = wildcard_suffix(text)
        self.assertTrue(suffix is None or normalise_pattern(text) == "*" + suffix)

    @given(NAMES)
    def test_a_plain_name_is_its_own_normal_form(self, name: str) -> None:
        self.assertEqual(normalise_hostname(name), name)
        self.assertEqual(normalise_hostname(f" {name.upper()}. "), name)


class RequestedNameTests(SimpleTestCase):
    def test_the_recorded_names(self) -> None:
        for case in json.loads(VECTORS.read_text())["cases"]:
            with self.subTest(case["input"]):
                too_long = max(map(len, case["hostname"].split("."))) > 63
                self.assertEqual(requested_name(case["input"]), None if too_long else case["hostname"])

    def test_what_is_outside_of_ascii_is_normalised(self) -> None:
        for text in (
            "bücher.Example",
            "Ｂücher。example.",
            "_x.bücher.example",
            "-é.com",
            "אa.com",
            "\u00a0a.com\u2003",
        ):
            with self.subTest(text):
                self.assertEqual(requested_name(text), normalise_hostname(text))

    def test_a_name_that_no_dns_has_is_no_name(self) -> None:
        label = "a" * 63
        for text, fits in (
            (f"{label}.example.com", True),
            (f"a{label}.example.com", False),
            (f"{label}.{label}.{label}.{label[:61]}", True),
            (f"{label}.{label}.{label}.{label[:62]}", False),
            (f" {label}.{label}.{label}.{label[:61]}. ", True),
            ("é" * 56 + ".example.com", True),
            ("é" * 64 + ".example.com", False),
            ("".join(map(chr, range(0xAC00, 0xD000, 200))) + ".example.com", False),
            ("-" + "é" * 31 + ".example.com", True),
            ("-" + "é" * 32 + ".example.com", False),
            ("é." * 60 + "com", False),
        ):
            with self.subTest(text):
                self.assertEqual(requested_name(text) is not None, fits)

    def test_a_strangers_name_costs_little(self) -> None:
        hangul = "".join(chr(0xAC00 + number * 97 % 11172) for number in range(900))
        names = [f"xn--{hangul[:size].encode('punycode').decode()}.example.com" for size in (18, 300, 900)] + [
            f"{hangul}.example.com",
            ".".join(hangul[start : start + 60] for start in (0, 60, 120, 180)),
        ]
        for name in names:
            with self.subTest(len(name)), effort() as made:
                requested_name(name)
            self.assertLess(made.calls, 10_000)  # `normalise_hostname` makes 100 000 and more

    def test_a_name_that_is_asked_for_again_is_remembered(self) -> None:
        requested_name("wieder-bücher.example.com")
        with effort() as made:
            requested_name("wieder-bücher.example.com")
        self.assertLess(made.calls, 40)

    @given(st.text() | st.text("xn-*.:aAéß。\u200d१", max_size=80))
    @example("\ud800.com")
    def test_no_text_raises(self, text: str) -> None:
        name = requested_name(text)
        if name is not None and not text.isascii():
            self.assertEqual(name, normalise_hostname(text))


class StrictCheckTests(SimpleTestCase):
    GOOD = {
        "app.example.com": "app.example.com",
        " App.Example.com. ": "app.example.com",
        "*.Preview.example.com": "*.preview.example.com",
        "bücher.example": "xn--bcher-kva.example",
        "*.bücher.example": "*.xn--bcher-kva.example",
        "_acme-challenge.example.com": "_acme-challenge.example.com",
        "r3---sn.example.com": "r3---sn.example.com",
        "localhost": "localhost",
        "1.example.com": "1.example.com",
        "a.1b": "a.1b",
        "*.a.1b": "*.a.1b",
        "a" * 63 + ".com": "a" * 63 + ".com",
        ".".join(["a" * 49] * 5) + ".com": ".".join(["a" * 49] * 5) + ".com",
    }
    BAD = (
        "",
        " ",
        ".",
        "*",
        "*.",
        "*.com",
        "*.com.",
        "*.localhost",
        "*.a",
        "*..com",
        "example.com\n.",
        "1",
        "a.1",
        "*.*.example.com",
        "foo.*.example.com",
        "foo*.example.com",
        "*foo.example.com",
        "a b.com",
        "a\tb.com",
        "a\x00.com",
        "a..b.com",
        ".example.com",
        "example.com..",
        "tcp:53",
        "udp:53",
        "example.com:443",
        "https://example.com",
        "example.com/path",
        "127.0.0.1",
        "*.0.0.1",
        "[::1]",
        "::1",
        "-dash.example.com",
        "dash-.example.com",
        "a" * 64 + ".com",
        "é" * 64 + ".com",
        ".".join(["a" * 49] * 6),
        "a@b.com",
        "a,b.com",
        "١٢٣.example",
        "xn--.com",
        "user\u202e.com",
    )

    def test_good_names(self) -> None:
        for text, expected in self.GOOD.items():
            with self.subTest(text):
                self.assertEqual(check_hostname(text), expected)

    def test_bad_names(self) -> None:
        for text in self.BAD:
            with self.subTest(text):
                with self.assertRaises(InvalidValue) as raised:
                    check_hostname(text)
                self.assertTrue(raised.exception.remedy)

    @given(st.text() | NAMES | NAMES.map(lambda name: "*." + name))
    def test_what_passes_is_a_normal_form(self, text: str) -> None:
        try:
            name = check_hostname(text)
        except InvalidValue:
            return
        self.assertEqual(check_hostname(name), name)
        self.assertEqual(normalise_pattern(name), name)
        self.assertTrue(name.isascii() and len(name) <= 253)
