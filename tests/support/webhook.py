"""A web server on loopback that a webhook is sent to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self

from tenants.services.webhook import SIGNATURE


class WebhookReceiver:
    """Keeps what is posted to it.

    Args:
        status: that it answers with; with a redirect's address, which must not be followed.

    Attributes:
        got: content, signature and body of each request.
    """

    def __init__(self, status: int = 204) -> None:
        self.got: list[tuple[dict[str, Any], str, bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((json.loads(body), self.headers.get(SIGNATURE) or "", body))
                self.send_response(status)
                self.send_header("Location", f"http://127.0.0.1:{receiver.server.server_port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
