"""Places that cite the protocol's description name headings that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from django.test import SimpleTestCase

from tests.support.processes import ROOT

CITATION = re.compile(r'docs/protocol\.md((?:(?:,| and)\s+(?:# )?"[^"]+")*)')
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def headings(document: str) -> list[str]:
    """The headings of a file in docs/."""
    return HEADING.findall((ROOT / "docs" / document).read_text())


def citations() -> Iterator[tuple[Path, str]]:
    """Each file that cites a heading of the protocol's description, and the heading."""
    for place in ("relay", "tenants", "nexusadmin", "tests"):
        for file in (ROOT / place).rglob("*.py"):
            for found in CITATION.findall(file.read_text()):
                yield from ((file, " ".join(name.split())) for name in re.findall(r'"([^"]+)"', found))


class ProtocolTests(SimpleTestCase):
    def test_each_cited_heading_is_there(self) -> None:
        there = set(headings("protocol.md"))
        cited = list(citations())
        self.assertGreater(len(cited), 40)
        self.assertEqual([(str(file), name) for file, name in cited if name not in there], [])

    def test_the_conformance_list_has_its_headings_in_its_order(self) -> None:
        self.assertEqual(headings("conformance.md"), headings("protocol.md"))
