"""The names that `relay` offers, and what loading them costs those who need only a part."""

from __future__ import annotations

import importlib
import subprocess
import sys

from django.test import SimpleTestCase

import relay
from relay import api
from tests.support.processes import ROOT, child_environment


class ApiTests(SimpleTestCase):
    def test_each_name_is_the_packages_own(self) -> None:
        self.assertEqual(list(relay.__all__), api.__all__)
        for name in api.__all__:
            self.assertIs(getattr(relay, name), getattr(api, name))
        self.assertLessEqual({*api.__all__, "__doc__"}, set(dir(relay)))
        namespace: dict[str, object] = {}
        exec("from relay import *", namespace)
        self.assertLessEqual(set(api.__all__), set(namespace))

    def test_other_names_are_refused_and_modules_found(self) -> None:
        for name in ("nope", "_nope", "__wrapped__", "import_module_"):
            with self.assertRaisesMessage(AttributeError, f"module 'relay' has no attribute '{name}'"):
                getattr(relay, name)
        with self.assertRaises(ImportError):
            exec("from relay import nope")
        namespace: dict[str, object] = {}
        exec("from relay import plan", namespace)
        self.assertIs(namespace["plan"], importlib.import_module("relay.plan"))

    def test_a_part_is_loaded_without_the_rest(self) -> None:
        program = (
            "import sys, relay.config, relay.errors\n"
            "print(*{'asyncio', 'relay.api', 'relay.relay', 'ssl', 'structlog', 'websockets'} & set(sys.modules))\n"
            "relay.Relay\n"
            "print(*{'asyncio', 'relay.api', 'relay.relay'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        before, after = done.stdout.split("\n")[:2]
        self.assertEqual((before, sorted(after.split())), ("", ["asyncio", "relay.api", "relay.relay"]), done.stderr)
