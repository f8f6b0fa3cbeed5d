"""Links in documents lead somewhere, and the index of docs/ leads to each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from django.test import SimpleTestCase

from tests.support.processes import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INDEX = ROOT / "docs" / "README.md"


def documents() -> list[Path]:
    """All documents of the repository."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link within the repository."""
    for link in LINK.findall(document.read_text()):
        if "://" not in link:
            place, _, anchor = link.partition("#")
            yield (document.parent / place if place else document).resolve(), anchor


def anchors(document: Path) -> set[str]:
    """The anchors that headings of a document make."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(document.read_text())
    }


class LinkTests(SimpleTestCase):
    def test_each_leads_somewhere(self) -> None:
        for document in documents():
            for target, anchor in links(document):
                with self.subTest(document=str(document.relative_to(ROOT)), target=str(target), anchor=anchor):
                    self.assertTrue(target.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(target))

    def test_the_index_leads_to_all_documents(self) -> None:
        there = {document for document in documents() if document.is_relative_to(ROOT / "docs")}
        self.assertEqual(there - {target for target, _ in links(INDEX)} - {INDEX}, set())
