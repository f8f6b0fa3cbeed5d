"""The conformance list names tests that exist, and says why where it names none."""

from __future__ import annotations

import importlib
import re

from django.test import SimpleTestCase

from tests.support.processes import ROOT

ROW = re.compile(r"^\| ([a-z]+-[0-9]+) \| (.+) \| (.+) \| (.+) \|$")
TEST = re.compile(r"`((?:[a-z_]+\.)+)([A-Z]\w+)\.(test_\w+)`")


def rows() -> list[tuple[str, ...]]:
    """The list's rows: number, the protocol, nexusadmin, tests."""
    lines = (ROOT / "docs" / "conformance.md").read_text().splitlines()
    return [found.groups() for found in map(ROW.match, lines) if found is not None]


class ConformanceTests(SimpleTestCase):
    rows = rows()

    def test_every_named_test_is_there(self) -> None:
        for number, *_, shown in self.rows:
            for module, case, name in TEST.findall(shown):
                with self.subTest(number, test=name):
                    found = getattr(importlib.import_module(f"tests.{module.rstrip('.')}"), case)
                    self.assertTrue(callable(getattr(found, name)))

    def test_every_row_names_a_test_or_says_why_not(self) -> None:
        for number, _, what, shown in self.rows:
            with self.subTest(number):
                self.assertTrue(TEST.search(shown) or (shown == "(no test)" and "planned" in what))

    def test_each_number_stands_once(self) -> None:
        numbers = [number for number, *_ in self.rows]
        self.assertGreater(len(numbers), 90)
        self.assertEqual(len(set(numbers)), len(numbers))
