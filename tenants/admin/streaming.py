"""Files that are too long to hold in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

PART: Final = 64 * 1024  # characters sent at a time


def download(request: HttpRequest, texts: Iterable[str], name: str, content_type: str) -> StreamingHttpResponse:
    """Return a response that makes the file while it is sent.

    Args:
        name: of the file, in plain ASCII.
    """
    parts = _parts(texts)
    # Django would gather a synchronous iterator whole before it sends anything to an ASGI server.
    response = StreamingHttpResponse(_asynchronous(parts) if isinstance(request, ASGIRequest) else parts)
    response.headers["Content-Type"] = content_type
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _parts(texts: Iterable[str]) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= PART:
            yield "".join(held).encode("utf-8", "replace")
            held, size = [], 0
    yield "".join(held).encode("utf-8", "replace")


async def _asynchronous(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    # In the request's own thread, whose database connection the parts are read from.
    following = sync_to_async(lambda: next(parts, None))
    while (part := await following()) is not None:
        yield part
