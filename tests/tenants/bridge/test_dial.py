"""Tests of tenants.bridge.dial: each target once, within its policies, some at a time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from django.test import SimpleTestCase

from relay.config import BackendConfig
from relay.config.target_policy import TargetPolicy
from relay.routing import PortRoutes, RouteTable
from tenants.bridge import dial
from tenants.bridge.dial import DialAnswer, dial_route


class DialTests(SimpleTestCase):
    def config(self, target: str, transport: Any = "tcp", **more: Any) -> BackendConfig:
        routes = RouteTable.build([PortRoutes(transport, 443, target)])
        return BackendConfig("backend:1", "edge", (), None, routes=routes, **more)

    def test_each_target_of_a_route(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            text = f"127.0.0.1:{server.getsockname()[1]},127.0.0.1:1"
            good, bad = dial_route(self.config(text), text, 443)
            self.assertEqual((good.problem, bad.problem), ("", "Connection refused"))
            self.assertGreater(good.seconds, 0)

    def test_what_can_be_known_of_udp(self) -> None:
        (found,) = dial_route(self.config("127.0.0.1:9", "udp"), "127.0.0.1:9", 443, "udp")
        self.assertEqual(found.problem, "")
        (found,) = dial_route(self.config("unix:/nowhere", "udp"), "unix:/nowhere", 443, "udp")
        self.assertIn("Unix socket", found.problem)

    def test_a_policy_refuses(self) -> None:
        config = self.config("127.0.0.1:1", target_policies=(TargetPolicy(),))
        self.assertIn("does not allow", dial_route(config, "127.0.0.1:1", 443)[0].problem)

    def test_only_so_many_at_a_time(self) -> None:
        for _ in range(dial.AT_ONCE):
            dial._places.acquire()
        try:
            (found,) = dial_route(self.config("127.0.0.1:1"), "127.0.0.1:1", 443)
            self.assertIn("too many dials", found.problem)
        finally:
            for _ in range(dial.AT_ONCE):
                dial._places.release()
        self.assertIsInstance(dial_route(self.config("127.0.0.1:1"), "127.0.0.1:1", 443)[0], DialAnswer)

    def test_inside_an_event_loop_too(self) -> None:
        async def main() -> list[DialAnswer]:
            return dial_route(self.config("127.0.0.1:1"), "127.0.0.1:1", 443)

        self.assertEqual(asyncio.run(main())[0].problem, "Connection refused")
