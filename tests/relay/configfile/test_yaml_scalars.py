"""Tests of relay.configfile.yaml_scalars: numbers as the files' own client reads them."""

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from relay.configfile.yaml_scalars import is_octal, whole_number


class NumberTests(SimpleTestCase):
    def test_every_form(self) -> None:
        for text, number in {
            "0": 0, "443": 443, "+5": 5, "-1": -1, "0443": 291, "-010": -8, "0o17": 15, "0xcc9f": 52383, "0XFF": 255,
            "0b101": 5, "-0x10": -16, "8_443": 8443, "0_17": 15, "089": 89, "1.9": 1, "-1.9": -1, "1.": 1, ".5": 0,
            "1e3": 1000, "2.5E1": 25, "9223372036854775807": 2**63 - 1,
        }.items():  # fmt: skip
            with self.subTest(text):
                self.assertEqual(whole_number(text), number)

    def test_texts(self) -> None:
        for text in (
            "", "_1", "1s", "true", "1:30", "2026-01-01", ".inf", ".nan", "0x", "0b2", "0o8", "1e400", "1e19", "--1",
            "9223372036854775808", "९", "1" * 1000, "0x" + "f" * 17,
        ):  # fmt: skip
            with self.subTest(text):
                self.assertIsNone(whole_number(text))

    def test_octal_is_what_only_its_zero_makes_so(self) -> None:
        self.assertTrue(is_octal("0443"))
        for text in ("0xcc9f", "0o17", "0", "089", "443"):
            self.assertFalse(is_octal(text), text)

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_plain_digits(self, number: int) -> None:
        self.assertEqual(whole_number(str(number)), number)

    @given(st.text("0123456789+-_.xXoObeEaf", max_size=20))
    def test_any_text(self, text: str) -> None:
        whole_number(text)
