"""What `manage.py` loads before a command runs: counted in modules, since seconds differ between machines."""

from __future__ import annotations

import json
import subprocess
import sys

from django.test import SimpleTestCase

from tests.support.processes import ROOT, child_environment

HEAVY = {
    "celery",
    "channels.layers",
    "channels_redis",
    "cryptography",
    "dns",
    "jwt",
    "psycopg",
    "redis",
    "relay.relay",
    "rich",
    "segno",
    "structlog",
    "tenants.admin",
    "unfold.admin",
    "uvloop",
    "websockets",
    "yaml",
}
"""What no command needs to say what it does."""

HELP = """
import contextlib, io, json, runpy, sys
sys.argv = ["manage.py", "help"]
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    runpy.run_path("manage.py", run_name="__main__")
assert "runrelay" in said.getvalue()
heavy = set(json.loads(sys.stdin.read()))
found = {"help": sorted(heavy & set(sys.modules))}
from django.core.management import get_commands, load_command_class
for name, app in sorted(get_commands().items()):
    if app in ("tenants", "nexusadmin"):
        before = set(sys.modules)
        load_command_class(app, name).create_parser("manage.py", name)
        found[name] = sorted(heavy & (set(sys.modules) - before))
print(json.dumps(found))
"""


class StartTests(SimpleTestCase):
    maxDiff = None

    def test_commands_load_nothing_heavy_before_they_run(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", HELP],
            cwd=ROOT,
            env=child_environment(),
            input=json.dumps(sorted(HEAVY)),
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertLessEqual({"help", "audit", "mint_token", "quickstart", "runrelay"}, set(found))
        self.assertEqual({name: heavy for name, heavy in found.items() if heavy}, {})

    def test_names_of_heavy_modules_are_right(self) -> None:
        program = (
            "import importlib.util, sys\nprint(*[name for name in sys.argv[1:] if not importlib.util.find_spec(name)])"
        )
        names = sorted(name for name in HEAVY if "." not in name)
        done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, ""), done.stderr)
