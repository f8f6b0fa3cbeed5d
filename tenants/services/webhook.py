"""Webhook: signed HTTP POST of an event to another program."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Final

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

TIMEOUT: Final = 10.0  # seconds
SIGNATURE: Final = "X-Nexusadmin-Signature"
"""Header: ``t=SECONDS,v1=HEX``; HEX is HMAC-SHA256 over ``SECONDS.BODY`` with settings.WARNING_WEBHOOK_SECRET."""


class WebhookError(Exception):
    """The receiver did not accept the event. The message holds neither the address nor the secret.

    Attributes:
        answered: whether it refused this event, and may well take another.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def post(event: str, content: dict[str, Any]) -> None:
    """Send an event to settings.WARNING_WEBHOOK_URL; a status of 200 to 299 means that it was taken.

    No redirect is followed: what is sent is meant for that address alone.

    Raises:
        WebhookError: it was not taken.
    """
    body = json.dumps({"event": event, **content}, ensure_ascii=False).encode()
    # The settings take https:// only, or this machine.
    request = urllib.request.Request(settings.WARNING_WEBHOOK_URL, body, method="POST")  # noqa: S310
    request.add_header("Content-Type", "application/json")
    request.add_header("User-Agent", "nexusadmin")
    if settings.WARNING_WEBHOOK_SECRET:
        request.add_header(SIGNATURE, signature(body, int(time.time())))
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise WebhookError(f"the webhook answers {error.code}", answered=True) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WebhookError(f"the webhook cannot be reached ({type(reason).__name__})") from None


@sensitive_variables()
def signature(body: bytes, seconds: int) -> str:
    """Return the value of the `SIGNATURE` header for a body sent at this time (seconds since 1970)."""
    key = settings.WARNING_WEBHOOK_SECRET.encode()
    return f"t={seconds},v1={hmac.new(key, b'%d.%s' % (seconds, body), hashlib.sha256).hexdigest()}"
