"""What modules import, and which distributions hold it."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.support.processes import ROOT

FIRST_PARTY = {"relay", "tenants", "nexusadmin", "tests", "manage"}


def normalised(name: str) -> str:
    """Return a distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> dict[str, set[str]]:
    """The distributions that hold each package, of those that are installed here."""
    return {package: {normalised(name) for name in names} for package, names in packages_distributions().items()}


def imported(*places: str) -> dict[str, set[str]]:
    """Third-party packages that the modules below `places` import, each with the files that do."""
    found: dict[str, set[str]] = defaultdict(set)
    for place in places:
        path = ROOT / place
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for package in packages_of(file):
                found[package].add(str(file.relative_to(ROOT)))
    return found


@cache
def packages_of(file: Path) -> set[str]:
    """Third-party packages that one module imports, wherever in it the import is."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - FIRST_PARTY
