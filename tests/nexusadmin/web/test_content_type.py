"""No form is taken whose charset Django cannot read."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import TestCase

from nexusadmin.web.content_type import ContentTypeGate

FORM = b"application/x-www-form-urlencoded"


class ContentTypeTest(TestCase):
    def ask(self, *types: bytes, kind: str = "http") -> list[int]:
        """Return the statuses that were sent; 200 is the site's."""
        sent: list[int] = []

        async def site(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})

        async def receive() -> Any:
            raise AssertionError("nothing is read")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        headers = [(b"Content-Type", each) for each in types]
        asyncio.run(ContentTypeGate(site)({"type": kind, "headers": headers}, receive, send))
        return sent

    def test_what_browsers_and_programs_send(self) -> None:
        for content_type in (
            FORM,
            FORM + b"; charset=utf-8",
            FORM + b';charset="UTF-8"',
            b"multipart/form-data; boundary=----WebKitFormBoundaryAbC",
            b"application/json",
            b"application/json; charset=utf8",
            b"",
            b";;;",
        ):
            with self.subTest(content_type):
                self.assertEqual(self.ask(content_type), [200])
        self.assertEqual(self.ask(), [200])

    def test_what_no_form_here_is_in(self) -> None:
        for charset in (
            *(b"hex", b"zip", b"base64", b"rot13", b"undefined", b"idna", b"utf-16", b"utf_8_sig", b"latin-1"),
            *(b"nonsense", b"a\0b", b"\xff", b"x" * 5000),
        ):
            for kind in (FORM, b"text/plain", b"multipart/form-data; boundary=x"):
                with self.subTest(charset[:20]):
                    self.assertEqual(self.ask(kind + b"; charset=" + charset), [415])
        for content_type in (
            FORM + b"; charset*=utf-8''hex",
            FORM + b"; charset*0=he; charset*1=x",
            FORM + b"; charset*=utf-8''a; charset*0=b",
        ):
            self.assertEqual(self.ask(content_type), [415])
        self.assertEqual(self.ask(FORM, FORM), [415])

    def test_what_is_no_request(self) -> None:
        self.assertEqual(self.ask(FORM + b"; charset=hex", kind="lifespan"), [200])
