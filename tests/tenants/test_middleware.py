"""Tests of the address that the audit trail keeps: the proxy's word counts, the client's own does not."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.test import TransactionTestCase
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tenants.models import AuditEntry

TOKEN = "a" * 32


class AddressTest(TransactionTestCase):
    async def log_in(self, client: str, forwarded: str) -> None:
        """Try to log in as nobody, from an address, with a header that names others."""
        body = urlencode({"username": "x", "password": "y", "csrfmiddlewaretoken": TOKEN}).encode()
        headers = {
            "host": "localhost",
            "cookie": f"csrftoken={TOKEN}",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
            "x-forwarded-for": forwarded,
        }
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/admin/login/",
            "raw_path": b"/admin/login/",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": (client, 5),
            "server": ("localhost", 80),
        }
        proxied: Any = ProxyHeadersMiddleware(get_asgi_application(), trusted_hosts="127.0.0.1,192.0.2.1")
        talk = ApplicationCommunicator(proxied, scope)
        await talk.send_input({"type": "http.request", "body": body, "more_body": False})
        start = await talk.receive_output(timeout=20)
        self.assertEqual(start["status"], 200)
        await talk.wait(timeout=20)

    def test_addresses(self) -> None:
        for client, forwarded, kept in (
            ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # no proxy of ours
            ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("127.0.0.1", "10.0.0.1, 203.0.113.9", "203.0.113.9"),  # what the client wrote stands in front
            ("127.0.0.1", "203.0.113.9, 192.0.2.1", "203.0.113.9"),  # two proxies
            ("127.0.0.1", "<script>", ""),
        ):
            with self.subTest(client=client, forwarded=forwarded):
                asyncio.run(self.log_in(client, forwarded))
                entry = AuditEntry.objects.latest("pk")
                self.assertEqual((entry.action, entry.address, entry.origin), ("log-in failed", kept, "admin"))
