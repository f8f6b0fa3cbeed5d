"""A raw client of the development node: what goes over the wire and nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from relay.devnode import DevNode, mint_token

SECRET = "test-secret-test-secret-test-secret"
HOST = "app.example.com"
TIMEOUT = 5.0


class RawClient:
    """One WebSocket to the node."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def receive(self) -> str | bytes:
        """The next message."""
        async with asyncio.timeout(TIMEOUT):
            return await self.websocket.recv()

    async def control(self) -> dict[str, Any]:
        """The next message, which has to be a control message."""
        message = await self.receive()
        assert isinstance(message, bytes) and message[:1] == b"\x02", message[:80]
        fields: dict[str, Any] = json.loads(message[1:])
        return fields

    async def data(self, stream_id: str) -> bytes:
        """The payload of the next message, which has to be data of that stream."""
        message = await self.receive()
        assert isinstance(message, bytes) and message[:1] == b"\x01", message[:80]
        assert message[1:17] == uuid.UUID(stream_id).bytes
        return message[17:]

    async def challenge(self) -> dict[str, Any]:
        """The next message, which has to be text."""
        message = await self.receive()
        assert isinstance(message, str), message[:80]
        fields: dict[str, Any] = json.loads(message)
        return fields

    async def send_control(self, event: str, stream_id: str, **fields: Any) -> None:
        """Send a control message."""
        body = {"event": event, "client_id": stream_id, **fields}
        await self.websocket.send(b"\x02" + json.dumps(body).encode())

    async def send_data(self, stream_id: str, payload: bytes) -> None:
        """Send a data message."""
        await self.websocket.send(b"\x01" + uuid.UUID(stream_id).bytes + payload)

    async def closed(self) -> tuple[int, str]:
        """Read to the end; the close code (1006 without a Close) and its reason."""
        async with asyncio.timeout(TIMEOUT):
            await self.websocket.wait_closed()
        return self.websocket.close_code or 0, self.websocket.close_reason or ""

    async def authenticate(self, *hostnames: str, **claims: Any) -> None:
        """Go through the handshake of the attested dialect."""
        await self.websocket.send(mint_token(SECRET, hostnames, **claims))
        nonce = (await self.challenge())["nonce"]
        await self.websocket.send(mint_token(SECRET, hostnames, session_nonce=nonce, **claims))


@contextlib.asynccontextmanager
async def raw_client(node: DevNode, **options: Any) -> AsyncIterator[RawClient]:
    """A WebSocket that has said nothing yet."""
    context = ssl.create_default_context(cadata=node.ca_pem) if node.options.tls else None
    async with connect(
        node.address, ssl=context, compression=None, ping_interval=None, close_timeout=0.2, **options
    ) as websocket:
        yield RawClient(websocket)


@contextlib.asynccontextmanager
async def session(node: DevNode, *hostnames: str, **claims: Any) -> AsyncIterator[RawClient]:
    """A session that is up, in the node's dialect; serves `HOST` unless told otherwise."""
    if not hostnames and not claims.keys() & {"tcp_ports", "udp_routes"}:
        hostnames = (HOST,)
    before = len(node.sessions)
    async with raw_client(node) as client:
        if node.options.attested:
            await client.authenticate(*hostnames, **claims)
        else:
            await client.websocket.send(mint_token(SECRET, hostnames, **claims))
        await node.wait_for_sessions(before + 1)
        yield client
