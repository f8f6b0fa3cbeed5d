"""Refusal of WebSockets: this site has none, and Django would raise an error."""

from __future__ import annotations

from nexusadmin.web.body_limit import ASGIApp, Receive, Scope, Send


class HttpOnly:
    """Refuses WebSockets and hands everything else on.

    Args:
        inner: the site.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before it is accepted: the server answers 403
        else:
            await self._inner(scope, receive, send)
