"""Tests of tenants.admin.streaming: a long file is sent in parts."""

from __future__ import annotations

import asyncio
import json

from django.test import AsyncClient, TransactionTestCase

from tenants.services.audit import journal
from tests.support.registry import make_tenant
from tests.tenants.admin.pages import make_operator

LIST = "/admin/tenants/auditentry/"


class StreamTest(TransactionTestCase):
    """Through an ASGI handler."""

    def test_a_file_is_sent_in_parts(self) -> None:
        operator = make_operator()
        tenant = make_tenant()
        for number in range(300):
            journal.record("noted", tenant=tenant, text=f"{number}", changes={"text": ["x" * 1_000, None]})

        async def ask() -> list[bytes]:
            client = AsyncClient()
            await client.aforce_login(operator)
            response = await client.get(f"{LIST}export/json/?did=other")
            self.assertEqual(response.status_code, 200)
            return [part async for part in response.streaming_content]

        parts = asyncio.run(ask())
        self.assertGreater(len(parts), 3)
        self.assertGreaterEqual(len(json.loads(b"".join(parts))), 300)
