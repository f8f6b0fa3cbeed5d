"""`make mutants`: small changes are put into modules one by one, and tests have to fail with each.

cosmic-ray makes the changes, in a copy of the tree. Each module has tests of its own and a number of changes at most,
drawn with one seed, so that a run ends: about 3 seconds a change without a database, 10 with one. What survives is
answered by a test, or in `SAME` by the reason why it is the same program.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PLACE: Final = ROOT / "var" / "mutants"
COPIED: Final = ("relay", "tenants", "nexusadmin", "tests", "manage.py", "pyproject.toml")

MODULES: Final = {
    "relay/routing.py": "tests.relay.test_routing",
    "relay/limits/rate_limit.py": "tests.relay.limits.test_rate_limit",
    "relay/limits/quota.py": "tests.relay.limits.test_quota.AllowanceTests",
    "relay/limits/pacing.py": "tests.relay.limits.test_pacing",
    "relay/limits/admission.py": "tests.relay.limits.test_admission",
    "relay/config/hostnames.py": "tests.relay.config.test_hostnames tests.relay.test_routing",
    "relay/config/access.py": "tests.relay.config.test_access",
    "relay/config/claims.py": "tests.relay.config.test_claims tests.relay.tokens.test_claims",
    "relay/config/target_policy.py": "tests.relay.config.test_target_policy",
    "relay/protocol/credits.py": "tests.relay.protocol.test_credits",
    "relay/protocol/frames.py": "tests.relay.protocol.test_frames",
    "relay/protocol/messages.py": "tests.relay.protocol.test_messages",
    "relay/protocol/socks5.py": "tests.relay.protocol.test_socks5",
    "relay/tokens/claims.py": "tests.relay.tokens.test_claims",
    "relay/tokens/jwt.py": "tests.relay.tokens.test_jwt tests.relay.tokens.test_claims",
    "relay/tokens/mint.py": "tests.relay.tokens.test_mint",
    "tenants/verifier/decision.py": "tests.tenants.verifier.test_decision",
    "tenants/services/access/permissions.py": "tests.tenants.services.access",
    "tenants/services/tokens/entitlements.py": "tests.tenants.services.tokens tests.tenants.verifier.test_decision",
}
"""Modules, and the tests that have to fail. Those of the registry are run with its database."""

NEVER: Final = (
    "core/ReplaceBinaryOperator_BitOr_.*",  # types in annotations, which nothing evaluates
)

SAME: Final = {
    ("relay/limits/quota.py", "self._new = TokenBucket(0, -1, self._loop.time())"): "a bucket without a rate saves "
    "nothing up, and one that gets a rate begins full",
    ("relay/limits/quota.py", "def streams(self, sessions: int = -1) -> int:"): "up to 128 sessions reserve the same",
}
"""Survivors that change nothing, by module and changed line, each with the reason."""


def main() -> None:
    """Change the chosen modules; the exit code is 1 where a survivor has no answer."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__, allow_abbrev=False)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)} (default: all)")
    parser.add_argument("--most", type=int, default=60, help="changes to a module at most (default: 60)")
    parser.add_argument("--minutes", type=float, default=15, help="for one module at most (default: 15)")
    options = parser.parse_args()
    unknown = set(options.modules) - set(MODULES)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    total = caught = 0
    open_ones = 0
    for module in options.modules or MODULES:
        results = list(_changed(module, options.most, options.minutes * 60))
        survived = [found for found in results if found["test_outcome"] == "survived"]
        same = [found for found in survived if (module, _line_of(found)) in SAME]
        total, caught = total + len(results), caught + len(results) - len(survived)
        said = f"{len(results)} changes, {len(results) - len(survived)} caught, {len(same)} the same program"
        print(f"{module}: {said}", flush=True)
        left = [found for found in survived if found not in same]
        open_ones += len(left)
        print("\n".join(found["diff"] for found in left), flush=True)
    print(f"{total} changes, {caught} caught, {open_ones} without an answer")
    sys.exit(bool(open_ones))


def _changed(module: str, most: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what became of each change that was tried within the time."""
    _copy()
    session, config = PLACE / "session.sqlite", PLACE / "config.toml"
    session.unlink(missing_ok=True)
    runner = "manage.py test --parallel 1 --failfast" if module.startswith("tenants/") else "-m unittest -q -f"
    command = f"{sys.executable} {runner} {MODULES[module]}"
    config.write_text(
        f"[cosmic-ray]\nmodule-path = [{json.dumps(module)}]\ntimeout = 120.0\nexcluded-modules = []\n"
        f"test-command = {json.dumps(command)}\n[cosmic-ray.distributor]\nname = 'local'\n"
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(NEVER)}\n"
    )
    _check(command)
    _tool("cosmic-ray", "init", str(config), str(session))
    _tool("cr-filter-operators", str(session), str(config))
    _draw(session, most)
    try:
        _tool("cosmic-ray", "exec", str(config), str(session), timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"{module}: not all changes were tried in {seconds / 60:g} minutes")
    dumped = _tool("cosmic-ray", "dump", str(session))
    for line in dumped.splitlines():
        _, result = json.loads(line)
        if result is not None and result["worker_outcome"] != "skipped" and result["test_outcome"] != "incompetent":
            yield result


def _copy() -> None:
    tree = PLACE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, tree / name)


def _check(command: str) -> None:
    """Run the tests without any change.

    Raises:
        SystemExit: they fail.
    """
    found = subprocess.run(command.split(), cwd=PLACE / "tree", env=_environment(), capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"The tests fail without a change:\n{found.stderr}")


def _draw(session: Path, most: int) -> None:
    """Leave out all changes but so many, the same ones in each run."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    with use_db(session, WorkDB.Mode.open) as database:
        items = sorted(database.pending_work_items, key=lambda item: str(item.mutations))
        left_out = random.Random(12).sample(items, max(0, len(items) - most))
        for item in left_out:
            database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def _tool(name: str, *arguments: str, timeout: float | None = None) -> str:
    found = subprocess.run(
        [Path(sys.executable).parent / name, *arguments],
        cwd=PLACE / "tree",
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
        check=True,
    )
    return found.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "nexusadmin.settings"}


def _line_of(result: dict[str, Any]) -> str:
    """Return the first changed line as it became."""
    lines = (line[1:].strip() for line in result["diff"].splitlines() if line[:1] == "+" and line[:3] != "+++")
    return next(lines, "")


if __name__ == "__main__":
    main()
