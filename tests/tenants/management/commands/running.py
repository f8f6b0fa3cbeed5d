"""Run commands as an operator does."""

from __future__ import annotations

import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.test import TestCase

CONFIGS = Path(__file__).parents[3] / "data" / "configs"


class CommandTestCase(TestCase):
    """Runs commands, with files in a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_command(self, *args: Any) -> tuple[str, str]:
        out, err = StringIO(), StringIO()
        call_command(*map(str, args), stdout=out, stderr=err, no_color=True)
        return out.getvalue(), err.getvalue()

    def file(self, text: str) -> Path:
        path = self.folder / "nexus.yaml"
        path.write_text(text)
        return path
