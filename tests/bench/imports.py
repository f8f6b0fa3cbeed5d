"""A file of 10 000 backends into the registry: new, again with no change, and with one backend in ten changed."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final

from django.core.management import call_command
from django.db import connection

BACKENDS: Final = 10_000
QUICK_BACKENDS: Final = 500
HOSTNAMES: Final = 3  # of each backend, each with a host route
NODES: Final = 8


async def imports() -> dict[str, Any]:
    """Import a file of many backends three times; seconds and queries of the command."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(_measure)()


def _measure() -> dict[str, Any]:
    count = QUICK_BACKENDS if "BENCH_QUICK" in os.environ else BACKENDS
    result: dict[str, Any] = {"database": connection.vendor, "backends, hostnames": f"{count}, {count * HOSTNAMES}"}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "backends.yaml"
        for what, changed in (("new", 0), ("no change", 0), ("one in ten changed", 10), ("no change again", 10)):
            file.write_text("".join(document(count, changed)))
            result[what] = _import(file)
        result["size of the file, MiB"] = round(file.stat().st_size / 2**20, 1)
    result["memory at its peak, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def _import(file: Path) -> str:
    start, worked = time.perf_counter(), time.process_time()
    queries = 0

    def counting(execute: Any, *arguments: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*arguments)

    with connection.execute_wrapper(counting):
        call_command("import_config", str(file), verbosity=0, stderr=StringIO())
    taken, busy = time.perf_counter() - start, time.process_time() - worked
    return f"{taken:.1f} s ({busy:.1f} s of them this process's CPU), {queries} queries"


def document(count: int, changed: int = 0) -> Iterator[str]:
    """Yield the text of a file of many backends.

    Args:
        changed: of every so many backends one has another target and another hostname; 0 for none.
    """
    yield "backends:\n"
    for number in range(count):
        other = bool(changed) and number % changed == 0
        names = [f"{label}.site{number:05}.example.com" for label in ("www", "other" if other else "api", "*.preview")]
        port = 9443 if other else 8443
        quoted = [f'"{name}"' for name in names]
        yield (
            f"  - name: site-{number:05}\n"
            f"    hostnames: [{', '.join(quoted)}]\n"
            f"    nexusAddresses: [wss://node-{number % NODES}.example.com/connect, "
            f"wss://node-{(number + 1) % NODES}.example.com/connect]\n"
            f"    weight: {1 + number % 3}\n"
            f'    attestation: {{hmacSecret: "secret {number} of a measurement", reauthIntervalSeconds: 300}}\n'
            "    portMappings:\n"
            f'      80: "10.{number // 250 % 250}.{number % 250}.1:8080"\n'
            "      443:\n"
            f'        default: "10.{number // 250 % 250}.{number % 250}.1:{port}"\n'
            "        hosts:\n"
        )
        for place, name in enumerate(quoted):
            yield f'          {name}: "10.{number // 250 % 250}.{number % 250}.{place + 2}:{port}"\n'
