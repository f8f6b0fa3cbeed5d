"""Nobody fills the log with errors by asking for a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import TestCase

from nexusadmin.web.http_only import HttpOnly


class HttpOnlyTest(TestCase):
    def test_websockets_are_refused_and_requests_go_through(self) -> None:
        reached: list[str] = []

        async def site(scope: Any, receive: Any, send: Any) -> None:
            reached.append(scope["type"])

        async def work(kind: str) -> list[str]:
            sent: list[str] = []

            async def receive() -> Any:
                return {"type": f"{kind}.connect"}

            async def send(message: Any) -> None:
                sent.append(message["type"])

            await HttpOnly(site)({"type": kind, "path": "/admin/"}, receive, send)
            return sent

        self.assertEqual(asyncio.run(work("websocket")), ["websocket.close"])
        self.assertEqual(asyncio.run(work("http")), [])
        self.assertEqual(reached, ["http"])
