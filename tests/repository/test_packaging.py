"""`pip install .` installs the relay as a typed library that needs no Django."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

from django.test import SimpleTestCase

from tests.repository.imports import distributions, imported, normalised
from tests.support.processes import ROOT

BUILD = "import flit_core.buildapi, sys; print(flit_core.buildapi.build_wheel(sys.argv[1]))"

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(("django", "tenants", "nexusadmin", "celery", "channels")))  # None: cannot be imported
sys.path.insert(0, sys.argv[1])
import relay
for module in pkgutil.walk_packages(relay.__path__, "relay."):
    importlib.import_module(module.name)
print(relay.__file__)
"""


def project() -> dict:
    """The `[project]` table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(code: str, *arguments: str, cwd: Path) -> str:
    """Run Python code in a process of its own and return what it printed."""
    done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class WheelTests(SimpleTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.wheel = Path(directory) / run(BUILD, directory, cwd=ROOT)
        cls.files = set(cls.enterClassContext(zipfile.ZipFile(cls.wheel)).namelist())

    def read(self, name: str) -> str:
        """One file of the wheel's metadata."""
        with zipfile.ZipFile(self.wheel) as archive:
            (found,) = (file for file in self.files if file.endswith(f".dist-info/{name}"))
            return archive.read(found).decode()

    def test_it_holds_the_relay_and_its_types(self) -> None:
        sources = {str(file.relative_to(ROOT)) for file in (ROOT / "relay").rglob("*.py")}
        held = {file for file in self.files if ".dist-info/" not in file}
        self.assertEqual(held, sources | {"relay/py.typed"})

    def test_it_runs_without_django_and_the_registry(self) -> None:
        found = run(IMPORT_ALL, str(self.wheel), cwd=self.wheel.parent)
        self.assertEqual(found, f"{self.wheel}/relay/__init__.py")

    def test_it_carries_its_licence(self) -> None:
        self.assertEqual(self.read("licenses/LICENSE"), (ROOT / "LICENSE").read_text())
        metadata = Parser().parsestr(self.read("METADATA"))
        self.assertEqual(metadata["License-Expression"], "AGPL-3.0-or-later")
        self.assertEqual(metadata["Requires-Python"], ">=3.11")


class DependenciesTests(SimpleTestCase):
    def test_they_are_what_the_relay_imports(self) -> None:
        table = project()
        extras = table["optional-dependencies"]
        named = {normalised(line.partition(">")[0]) for line in sum(extras.values(), table["dependencies"])}
        used = set().union(*(distributions()[package] for package in imported("relay")))
        self.assertEqual(named, used)

    def test_only_the_development_node_needs_its_extra(self) -> None:
        files = imported("relay")["cryptography"]
        self.assertEqual({file for file in files if not file.startswith("relay/devnode/")}, set())

    def test_they_are_as_new_as_the_registrys(self) -> None:
        table = project()
        lines = (ROOT / "base_requirements.txt").read_text().splitlines()
        asked = {line.partition("#")[0].strip() for line in lines}
        for requirement in sum(table["optional-dependencies"].values(), table["dependencies"]):
            with self.subTest(requirement):
                self.assertIn(requirement, asked)
