"""Nobody fills the disk of the web process by what is posted."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import TestCase

from nexusadmin.web.body_limit import BodyLimit


class BodyLimitTest(TestCase):
    def post(
        self, chunks: list[bytes], length: int | None = None, most: int = 10
    ) -> tuple[list[int], list[bytes], list[str]]:
        """Return the statuses that were sent, the bytes that the site got, and what kinds of messages it saw."""
        seen: list[bytes] = []
        kinds: list[str] = []
        sent: list[int] = []
        waiting = [{"type": "http.request", "body": each, "more_body": True} for each in chunks]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})

        async def site(scope: Any, receive: Any, send: Any) -> None:
            while True:
                message = await receive()
                kinds.append(message["type"])
                seen.append(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        headers = [] if length is None else [(b"Content-Length", str(length).encode())]
        asyncio.run(BodyLimit(site, most)({"type": "http", "headers": headers}, receive, send))
        return sent, seen, kinds

    def test_what_is_small_enough_goes_through(self) -> None:
        self.assertEqual(self.post([b"12345", b"67890"], 10)[:2], ([200], [b"12345", b"67890", b""]))

    def test_what_announces_more_is_refused_unread(self) -> None:
        self.assertEqual(self.post([b"1" * 11], 11)[:2], ([413], []))

    def test_what_becomes_more_is_hung_up_on(self) -> None:
        _, seen, kinds = self.post([b"12345", b"67890", b"1", b"2"])
        self.assertEqual((b"".join(seen), kinds[-1]), (b"1234567890", "http.disconnect"))
