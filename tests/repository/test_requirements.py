"""Production needs nothing but `requirements.txt`, and names nothing there that it does not use."""

from __future__ import annotations

import re

from django.conf import settings
from django.test import SimpleTestCase

from tests.repository.imports import FIRST_PARTY, distributions, imported, normalised
from tests.support.processes import ROOT

PRODUCTION = ("relay", "tenants", "nexusadmin", "manage.py")

NOT_IMPORTED = {
    "uvicorn": "deploy/Procfile runs it",
    "httptools": "uvicorn imports it",
    "psycopg": "Django imports it for PostgreSQL",
    "async-timeout": "redis imports it before Python 3.11.3",
}
"""Requirements that no module imports, and what does."""

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def required(file: str) -> set[str]:
    """The distributions that a file names."""
    return {normalised(found[0]) for found in map(NAME.match, (ROOT / file).read_text().splitlines()) if found}


def pins(file: str) -> dict[str, str]:
    """The versions that a file pins."""
    return dict(PIN.findall((ROOT / file).read_text()))


def named_in_settings() -> dict[str, set[str]]:
    """Third-party packages whose dotted names are in the settings."""
    names = {*settings.INSTALLED_APPS, *settings.MIDDLEWARE, *settings.AUTHENTICATION_BACKENDS}
    packages = {name.partition(".")[0] for name in names} - FIRST_PARTY
    return {package: {"nexusadmin/settings.py"} for package in packages}


class RequirementsTests(SimpleTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.used = {**named_in_settings(), **imported(*PRODUCTION)}

    def test_production_imports_what_its_own_file_names(self) -> None:
        production = required("base_requirements.txt")
        for package, files in self.used.items():
            with self.subTest(package):
                self.assertTrue(
                    distributions().get(package, set()) & production,
                    f"{sorted(files)[0]} imports {package}: name it in base_requirements.txt, then make lock",
                )

    def test_production_needs_what_its_own_file_names(self) -> None:
        used = set().union(*(distributions().get(package, set()) for package in self.used))
        self.assertEqual(required("base_requirements.txt") - used, set(NOT_IMPORTED))

    def test_tests_import_what_is_pinned(self) -> None:
        pinned = {*pins("requirements.txt"), *pins("dev_requirements.txt")}
        for package, files in imported("tests", "docs").items():
            with self.subTest(package):
                self.assertTrue(distributions().get(package, set()) & pinned, sorted(files)[0])

    def test_every_requirement_is_pinned(self) -> None:
        for base, locked in (
            ("base_requirements.txt", "requirements.txt"),
            ("base_dev_requirements.txt", "dev_requirements.txt"),
        ):
            with self.subTest(base):
                self.assertEqual(required(base) - set(pins(locked)), set(), "run make lock")

    def test_both_files_pin_one_version(self) -> None:
        production, development = pins("requirements.txt"), pins("dev_requirements.txt")
        both = production.keys() & development.keys()
        self.assertEqual({name: production[name] for name in both}, {name: development[name] for name in both})

    def test_no_file_names_an_index(self) -> None:
        for file in ROOT.glob("*requirements*.txt"):
            with self.subTest(file.name):
                self.assertNotRegex(file.read_text(), r"://|--(?:extra-)?index-url|--find-links|--trusted-host")
