"""``python -m tests.bench [--quick] [NAME …]``: run measurements, print tables, write var/bench.json.

Each runs in a process of its own, with a registry of its own in a temporary place.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from tests.support.postgres import PostgresServer

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "var" / "bench.json"
NAMES = (
    "speed",
    "idle-streams",
    "fairness",
    "storms",
    "responses",
    "routes",
    "workers",
    "both-ways",
    "deaf-target",
    "reauth",
    "hints",
    "edits-under-load",
    "node-restarts",
    "import",
    "import-sqlite",
    "size",
    "size-sqlite",
    "verify",
)
DIALECTS = ("attested", "token")
ONE_DIALECT = (
    "speed",
    "idle-streams",
    "fairness",
    "storms",
    "responses",
    "routes",
    "workers",
    "reauth",
    "hints",
    "import",
    "import-sqlite",
    "size",
    "size-sqlite",
    "verify",
)
"""Those that are about flow control, or the same in both dialects."""
ON_POSTGRES = ("import", "size", "verify")
RUNS, SECONDS = 3, 3.0
QUICK_RUNS, QUICK_SECONDS = 1, 1.5


def main(arguments: list[str]) -> int:
    """Run the measurements of these names, all without any."""
    if arguments[:1] == ["--one"]:
        return _run_here(*arguments[1:])
    if "--quick" in arguments:
        arguments.remove("--quick")
        os.environ["BENCH_QUICK"] = "1"
    unknown = [name for name in arguments if name not in NAMES]
    if unknown:
        print(f"no measurement is called {unknown[0]!r}: choose from {', '.join(NAMES)}", file=sys.stderr)
        return 2
    console, results, failed = Console(width=110), {}, 0
    for name in arguments or NAMES:
        for dialect in DIALECTS[:1] if name in ONE_DIALECT else DIALECTS:
            result = _run_apart(name, dialect)
            failed += result is None
            results[f"{name}, {dialect}"] = result
            _show(console, f"{name}, {dialect} dialect", result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"measured": time.strftime("%F %T"), "results": results}, indent=1))
    console.print(f"written to {RESULTS.relative_to(ROOT)}")
    return 1 if failed else 0


def _run_apart(name: str, dialect: str) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="nexusadmin-bench-") as directory:
        environment = dict(os.environ)
        for variable in ("REDIS_URL", "REDIS_URL_FILE", "DATABASE_URL_FILE"):
            environment.pop(variable, None)
        environment |= {
            "DJANGO_SETTINGS_MODULE": "nexusadmin.settings",
            "DEBUG": "on",
            "STATE_DIR": directory,
            "DATABASE_URL": f"sqlite:///{directory}/registry.sqlite3",
            "LOG_LEVEL": "WARNING",
        }
        postgres = PostgresServer().start() if name in ON_POSTGRES else None
        if postgres is not None:
            environment["DATABASE_URL"] = postgres.create_database("registry")
        output = Path(directory) / "result.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench", "--one", name, dialect, str(output)], env=environment
        )
        if postgres is not None:
            postgres.stop()
        return json.loads(output.read_text()) if done.returncode == 0 else None


def _run_here(name: str, dialect: str, output: str) -> int:
    from tests.bench import bulk, edits, imports, losses, routes, speed, verify

    runs, seconds = (QUICK_RUNS, QUICK_SECONDS) if "BENCH_QUICK" in os.environ else (RUNS, SECONDS)

    redis = edits.redis_for_hints() if name == "hints" else None
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from tests.bench import size  # it looks at models

    try:
        match name:
            case "speed":
                measured = speed.speed(runs, seconds)
            case "idle-streams":
                measured = speed.idle()
            case "fairness":
                measured = speed.fairness(runs, seconds)
            case "storms":
                measured = losses.storms()
            case "responses":
                measured = losses.responses()
            case "routes":
                measured = routes.routes()
            case "workers":
                measured = speed.workers(runs, seconds)
            case "both-ways":
                measured = bulk.both_ways(dialect)
            case "deaf-target":
                measured = bulk.deaf_target(dialect)
            case "reauth":
                measured = bulk.reauth()
            case "hints":
                assert redis is not None
                measured = edits.hints(dialect, redis)
            case "import" | "import-sqlite":
                measured = imports.imports()
            case "size" | "size-sqlite":
                measured = size.size(on_sqlite=name == "size-sqlite")
            case "verify":
                measured = verify.verify(seconds)
            case "edits-under-load":
                measured = edits.under_load(dialect)
            case _:
                measured = edits.restarts(dialect)
        # The bench's own part of the work must not be what is measured.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            Path(output).write_text(json.dumps(runner.run(measured)))
    finally:
        if redis is not None:
            redis.stop()
    return 0


def _show(console: Console, title: str, result: dict[str, Any] | None) -> None:
    table = Table("measured", "value", title=title, title_justify="left", min_width=60)
    for label, value in (result or {"failed": "see above"}).items():
        for sub, figure in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{label}: {sub}" if sub else label, str(figure))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
