"""Tests of tenants.management.progress: a bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

from io import StringIO
from unittest import mock

from django.test import SimpleTestCase

from tenants.management.progress import progress_bar


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class ProgressBarTests(SimpleTestCase):
    def shown(self, stream: StringIO, **options: bool) -> str:
        with mock.patch("sys.stderr", stream), mock.patch.dict("os.environ", {"TERM": "xterm", "COLUMNS": "100"}):
            with progress_bar(**options) as progress:
                progress("writing backends", 0, 0)
                progress("writing backends", 20, 40)
        return stream.getvalue()

    def test_on_a_terminal(self) -> None:
        shown = self.shown(Terminal())
        self.assertIn("writing backends", shown)
        self.assertIn("20/40", shown)

    def test_elsewhere_and_when_quiet(self) -> None:
        self.assertEqual(self.shown(StringIO()), "")
        self.assertEqual(self.shown(Terminal(), quiet=True), "")
