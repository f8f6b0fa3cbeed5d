"""Limit on the size of a request: Django stores a whole body, on disk if large, before it looks at the sender."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY: Final = 8 * 1024 * 1024
"""Bytes. Django takes 2.5 MB of fields (DATA_UPLOAD_MAX_MEMORY_SIZE), 20,000 of them at most, and no page takes files;
the rest is for what surrounds each field of a multipart form."""


class BodyLimit:
    """Refuses requests that announce a larger body, and hangs up on those whose body becomes larger.

    Args:
        inner: the site.
        most: bytes that a body may have.
    """

    def __init__(self, inner: ASGIApp, most: int = MOST_BODY) -> None:
        self._inner = inner
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        if self._announces_more(scope):
            await refuse(send, 413, f"A request here has {self._most} bytes at most.")
            return
        left = self._most

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        await self._inner(scope, bounded, send)

    def _announces_more(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name.lower() == b"content-length":
                # The server has refused what is no number.
                return not value.isdigit() or len(value) > 15 or int(value) > self._most
        return False


async def refuse(send: Send, status: int, text: str) -> None:
    """Answer a request, and read no more of it."""
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
