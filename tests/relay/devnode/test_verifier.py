"""Tests of relay.devnode.verifier: a node that asks, and what it says of a verifier that is away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from unittest import IsolatedAsyncioTestCase

import jwt

from relay.devnode import DevNode, mint_token
from tests.relay.devnode.client import HOST, SECRET, raw_client
from tests.support.ports import free_port


class Verifier:
    """Answers every question alike, and keeps what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"valid": False}
        self.heads: list[str] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Verifier]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            body = json.dumps(self.body).encode()
            head = f"HTTP/1.1 {self.status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self


class VerifierTests(IsolatedAsyncioTestCase):
    async def ends(self, verifier_url: str) -> tuple[int, str]:
        """Show a good token to a node without a secret of its own; return how the session ends."""
        async with DevNode(secret="", verifier_url=verifier_url) as node, raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            return await client.closed()

    async def test_words_of_an_outage_and_of_refusals(self) -> None:
        stage = "stage0 token validation failed: "
        async with Verifier().listening() as verifier:
            for status, body, words in (
                (503, {}, "remote verifier returned status 503"),
                (500, {}, "remote verifier returned status 500"),
                (401, {"error": "no"}, "remote verifier rejected token with status 401"),
                (404, {}, "remote verifier rejected token with status 404"),
                (200, {"valid": False, "error": "key k is revoked"}, "key k is revoked"),
                (200, [], "remote verifier returned no JSON"),
            ):
                verifier.status, verifier.body = status, body
                with self.subTest(words):
                    ended = await self.ends(f"http://127.0.0.1:{verifier.port}/verify")
                    self.assertEqual(ended, (1008, stage + words))

    async def test_one_that_is_not_there_ends_the_socket_without_a_close(self) -> None:
        self.assertEqual(await self.ends(f"http://127.0.0.1:{free_port()}/verify"), (1006, ""))

    async def test_a_secret_of_its_own_serves_meanwhile(self) -> None:
        url = f"http://127.0.0.1:{free_port()}/verify"
        async with DevNode(secret=SECRET, verifier_url=url) as node, raw_client(node) as client:
            await client.websocket.send(mint_token(SECRET, [HOST]))
            self.assertEqual((await client.challenge())["type"], "handshake_challenge")

    async def test_user_information_is_sent_as_basic_authentication(self) -> None:
        async with Verifier().listening() as verifier:
            claims = jwt.decode(mint_token(SECRET, [HOST]), options={"verify_signature": False})
            verifier.body = {"valid": True, "claims": claims}
            url = f"http://x:s%40cret@127.0.0.1:{verifier.port}/verify"
            async with DevNode(secret="", verifier_url=url) as node, raw_client(node) as client:
                await client.websocket.send(mint_token(SECRET, [HOST]))
                self.assertEqual((await client.challenge())["type"], "handshake_challenge")
                self.assertNotIn("cret", repr(node.options))
        (head,) = verifier.heads
        self.assertIn(f"Authorization: Basic {base64.b64encode(b'x:s@cret').decode()}\r\n", head)
        self.assertIn("POST /verify HTTP", head)
