"""The examples in docs/ run."""

from __future__ import annotations

import asyncio
import importlib.util
import shlex
import sys
import tempfile
from dataclasses import replace
from types import ModuleType

from django.test import SimpleTestCase

from relay import PortRoutes, Relay, RouteTable
from relay.devnode import DevNode
from tests.repository.test_packaging import BUILD, run
from tests.support.processes import ROOT, ManagedProcess, child_environment
from tests.support.relays import SECRET, on_both_loops, on_uvloop, quick, recorded_logs
from tests.support.targets import HttpTarget
from tests.support.users import http_get
from tests.support.waiting import async_wait_until

EXAMPLE = ROOT / "docs" / "examples" / "embedded_relay.py"


def load() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("embedded_relay", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class EmbeddedRelayTests(SimpleTestCase):
    @on_both_loops
    async def test_its_handler_and_its_backend(self) -> None:
        example = load()
        with recorded_logs():
            async with DevNode(secret=SECRET, http_ports={80: 0}) as node, HttpTarget("app", port=0) as app:
                backend = example.backend(node.address, SECRET, node.ca_pem)
                table = backend.routes.resolve(80, "app.example.com")
                self.assertEqual(table, "localhost:8080")
                backend = replace(backend, routes=RouteTable.build([PortRoutes("tcp", 80, default=app.address)]))
                async with Relay([backend], connect_handler=example.connect, timings=quick()) as relay:
                    await relay.wait_up()
                    answer = await http_get(node.public_port(), "memory.example.com")
                    self.assertIn(b"you asked for memory.example.com", answer.body)
                    answer = await http_get(node.public_port(), "app.example.com", "/name")
                    self.assertEqual(answer.body, b"app")

    @on_uvloop
    async def test_the_command_of_the_manual_runs_with_what_pip_installs(self) -> None:
        block = (ROOT / "docs" / "relay.md").read_text().partition("```sh\npip install .\n")[2].partition("```")[0]
        secret, python, *arguments = shlex.split(block)
        self.assertEqual((secret, python), ("NEXUS_SECRET=…", "python"))
        program, address, ca_file = arguments
        self.assertEqual((address, ca_file), ("wss://nexus.example.com/connect", "ca.pem"))
        directory = self.enterContext(tempfile.TemporaryDirectory())
        wheel = await asyncio.to_thread(run, BUILD, directory, cwd=ROOT)
        async with DevNode(secret=SECRET, http_ports={80: 0}) as node:
            environment = child_environment(NEXUS_SECRET=SECRET, PYTHONPATH=f"{directory}/{wheel}")
            process = ManagedProcess([sys.executable, program, node.address, node.ca_file], env=environment)
            try:
                await async_wait_until(lambda: "up\n" in process.output(), "up")
                answer = await http_get(node.public_port(), "memory.example.com")
                self.assertEqual((answer.status, answer.body[:6]), (200, b"hello "))
                await asyncio.sleep(0)
            finally:
                process.kill()
