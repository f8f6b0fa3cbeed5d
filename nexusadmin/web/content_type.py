"""A look at a request's Content-Type before Django's: what that cannot read is answered here, in one line.

Django takes the charset of a form for the name of any codec, `hex` and `zip` among them, and fails in the middle of its
middleware: an error page, a traceback of 75 KB and 20 ms for anyone who asks.
"""

from __future__ import annotations

import codecs
from email.message import Message
from typing import Final

from nexusadmin.web.body_limit import ASGIApp, Receive, Scope, Send, refuse

LONGEST: Final = 1024
"""Bytes of a header."""


class ContentTypeGate:
    """Refuses requests whose Content-Type names another charset than UTF-8, in which all pages are, and so all forms.

    Args:
        inner: the site.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            types = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
            if types and not (len(types) == 1 and is_readable(types[0])):
                await refuse(send, 415, "Send the form in UTF-8.")
                return
        await self._inner(scope, receive, send)


def is_readable(content_type: bytes) -> bool:
    """Say whether a Content-Type header is one that Django can read the body by."""
    if len(content_type) > LONGEST:
        return False
    try:
        header = Message()
        header["Content-Type"] = content_type.decode("ascii")
        charset = header.get_param("charset", "utf-8")
        return isinstance(charset, str) and codecs.lookup(charset).name == "utf-8"
    except (ValueError, LookupError, TypeError):  # TypeError: numbered and unnumbered parts of a parameter, mixed
        return False
